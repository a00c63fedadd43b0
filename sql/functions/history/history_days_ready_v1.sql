-- How many days from today on have their partitions: 0 means that settles fail at the next midnight (UTC). Looks no
-- further than to the first day that is missing: each scrape asks.
CREATE OR REPLACE FUNCTION history_days_ready_v1() RETURNS integer
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    v_day date;
BEGIN
    FOR n IN 0 .. 400 LOOP
        v_day := (clock_timestamp() AT TIME ZONE 'UTC')::date + n;
        IF NOT (history_day_v1('job_history_7d', v_day) AND history_day_v1('job_history_90d', v_day)) THEN
            RETURN n - 1;
        END IF;
    END LOOP;
    RETURN 400;
END $$;
