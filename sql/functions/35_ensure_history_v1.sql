-- Makes the day partitions of the history, from yesterday to p_days ahead, and returns how many it made. Each is made
-- apart and then attached: that takes a lock which no reader or settle minds, where CREATE ... PARTITION OF would wait
-- for every reader and make every settle wait behind it. Gives up after a second of waiting: there is time.
-- With the rights of the tables' owner, so that a worker needs none to create. Called by migrate and, every few minutes, by one worker.
CREATE OR REPLACE FUNCTION ensure_history_v1(p_days integer DEFAULT 14) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET lock_timeout = '1s' SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
DECLARE
    v_class text;
    v_day   date;
    v_name  text;
    v_from  timestamptz;
    v_to    timestamptz;
    v_made  integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7302, schema_key_v1()) THEN
        RETURN 0;  -- somebody else is making them
    END IF;
    FOREACH v_class IN ARRAY ARRAY['7d', '90d'] LOOP
        FOR v_day IN SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date + n FROM generate_series(-1, p_days) AS n LOOP
            v_name := format('job_history_%s_%s', v_class, to_char(v_day, 'YYYYMMDD'));
            CONTINUE WHEN to_regclass(quote_ident(v_name)) IS NOT NULL;
            v_from := v_day::timestamp AT TIME ZONE 'UTC';
            v_to := (v_day + 1)::timestamp AT TIME ZONE 'UTC';
            EXECUTE format('CREATE TABLE %I (LIKE job_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', v_name);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           'job_history_' || v_class, v_name, v_from, v_to);
            v_made := v_made + 1;
        END LOOP;
    END LOOP;
    RETURN v_made;
END $$;
