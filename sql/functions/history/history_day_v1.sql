-- Tells whether a retention class has a partition for a day.
-- p_parent is the table of the class. A table that has the name of the day, but is not attached to p_parent, does not
-- count.
CREATE OR REPLACE FUNCTION history_day_v1(p_parent text, p_day date) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_inherits
                    WHERE inhparent = to_regclass(format('%I.%I', :'schema', p_parent))
                      AND inhrelid = to_regclass(format('%I.%I', :'schema', p_parent || to_char(p_day, '_YYYYMMDD'))));
END $$;
