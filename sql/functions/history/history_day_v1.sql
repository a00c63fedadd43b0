-- Has a class of the history (its table) a partition for this day? One that somebody else gave the name of a day is none.
CREATE OR REPLACE FUNCTION history_day_v1(p_parent text, p_day date) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_inherits
                    WHERE inhparent = to_regclass(format('%I.%I', :'schema', p_parent))
                      AND inhrelid = to_regclass(format('%I.%I', :'schema', p_parent || to_char(p_day, '_YYYYMMDD'))));
END $$;
