-- Makes the day partitions of the history, from yesterday to p_days ahead, and returns how many it made. Each is made apart and
-- then attached: that takes a lock which no reader or settle minds, where CREATE ... PARTITION OF would wait for every reader
-- and make every settle wait behind it. Gives up after a second of waiting: there is time. A table that is none of ours and has
-- the name of a day is left alone, with a warning, and that day is missing (history_days_ready_v1). With the rights of the
-- tables' owner, so that a worker needs none to create. At most 60 days: a worker's login shall not fill the catalog. The
-- schema is in its path for an event trigger of the application. Called by migrate, by each worker every ten minutes, and by
-- whoever finds no day for a row (record_v1; a worker after its settle).
CREATE OR REPLACE FUNCTION ensure_history_v1(p_days integer DEFAULT 14) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp SET lock_timeout = '1s' SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
DECLARE
    v_parent text;
    v_day    date;
    v_name   text;
    v_made   integer := 0;
BEGIN
    -- Not an advisory lock, which anybody can take. Nobody but migrate locks this row, and no reader minds.
    PERFORM FROM :"schema".worker_schema FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;  -- somebody else is making them
    END IF;
    FOR v_parent IN SELECT c.parent FROM :"schema".history_classes_v1() c LOOP
        FOR v_day IN SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date + n FROM pg_catalog.generate_series(-1, least(p_days, 60)) AS n LOOP
            v_name := v_parent || pg_catalog.to_char(v_day, '_YYYYMMDD');
            IF pg_catalog.to_regclass(pg_catalog.format('%I.%I', :'schema', v_name)) IS NOT NULL THEN
                IF NOT :"schema".history_day_v1(v_parent, v_day) THEN
                    RAISE WARNING 'the table % is none of the history: it keeps its day from being made', v_name;
                END IF;
                CONTINUE;
            END IF;
            EXECUTE pg_catalog.format('CREATE TABLE %1$I.%2$I (LIKE %1$I.job_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                           :'schema', v_name);
            EXECUTE pg_catalog.format('ALTER TABLE %1$I.%2$I ATTACH PARTITION %1$I.%3$I FOR VALUES FROM (%4$L) TO (%5$L)',
                           :'schema', v_parent, v_name,
                           v_day::timestamp AT TIME ZONE 'UTC', (v_day + 1)::timestamp AT TIME ZONE 'UTC');
            v_made := v_made + 1;
        END LOOP;
    END LOOP;
    RETURN v_made;
END $$;

REVOKE EXECUTE ON FUNCTION ensure_history_v1(integer) FROM PUBLIC;
