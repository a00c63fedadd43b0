-- Returns for how many days after today the history has its partitions, without a gap.
-- 0 means that tomorrow has none: the first settle after midnight (UTC) fails, and its worker must make the day.
-- -1 means that today has none. The result is at most 400. The function stops at the first missing day, because each scrape
-- calls it.
CREATE OR REPLACE FUNCTION history_days_ready_v1() RETURNS integer
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    v_parents text[] := ARRAY(SELECT c.parent FROM history_classes_v1() c);
    v_day     date;
BEGIN
    FOR n IN 0 .. 400 LOOP
        v_day := (clock_timestamp() AT TIME ZONE 'UTC')::date + n;
        IF EXISTS (SELECT FROM unnest(v_parents) p (parent) WHERE NOT history_day_v1(p.parent, v_day)) THEN
            RETURN n - 1;
        END IF;
    END LOOP;
    RETURN 400;
END $$;
