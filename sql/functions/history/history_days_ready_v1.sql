-- How many days after today have their partitions, one after the other. 0: tomorrow has none, so from midnight (UTC) on the
-- first settle fails, and its worker must make the day. -1: today has none. Looks no further than to the first day that is
-- missing: each scrape asks.
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
