-- How many days from today on have their partitions: 0 means that settles fail at the next midnight (UTC). Looks no
-- further than to the first day that is missing: each scrape asks.
CREATE OR REPLACE FUNCTION history_days_ready_v1() RETURNS integer
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    v_day text;
BEGIN
    FOR n IN 0 .. 400 LOOP
        v_day := to_char((clock_timestamp() AT TIME ZONE 'UTC')::date + n, 'YYYYMMDD');
        IF to_regclass('job_history_7d_' || v_day) IS NULL OR to_regclass('job_history_90d_' || v_day) IS NULL THEN
            RETURN n - 1;
        END IF;
    END LOOP;
    RETURN 400;
END $$;
