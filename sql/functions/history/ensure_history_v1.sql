-- Makes the day partitions of the history, from yesterday to p_days ahead, and returns how many it made.
-- p_days is at most 60; a larger value counts as 60, so that a worker's login cannot fill the catalog.
-- Each partition is made as a separate table and then attached. ATTACH PARTITION takes a lock that blocks neither readers
-- nor settles. CREATE TABLE ... PARTITION OF would wait for every reader, and every settle would wait behind it.
-- Locks: it returns 0 at once if another session has locked the row of worker_schema, because that session makes the days
-- or migrates. It waits at most one second for any other lock and then fails (lock_timeout). The days are made well
-- ahead, so a later call is early enough.
-- A table of somebody else that has the name of a day is left alone, with a warning. That day is then missing: see
-- history_days_ready_v1.
-- It runs with the rights of the owner, so that a worker needs no right to create tables. The queue's schema is in its
-- search_path for an event trigger of the application.
-- Called by migrate, and by each worker every ten minutes. record_v1 and a worker whose settle found no day call it, too.
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
    -- An advisory lock would not do, because anybody can take one. Only migrate locks this row too, and it blocks no reader.
    PERFORM FROM :"schema".worker_schema FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;  -- another session makes them, or migrates
    END IF;
    FOR v_parent IN SELECT c.parent FROM :"schema".history_classes_v1() c LOOP
        FOR v_day IN SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date + n FROM pg_catalog.generate_series(-1, least(p_days, 60)) AS n LOOP
            v_name := v_parent || pg_catalog.to_char(v_day, '_YYYYMMDD');
            IF pg_catalog.to_regclass(pg_catalog.format('%I.%I', :'schema', v_name)) IS NOT NULL THEN
                IF NOT :"schema".history_day_v1(v_parent, v_day) THEN
                    RAISE WARNING
                        'the table % is not a partition of the history, and keeps its day from being made: drop or rename it',
                        v_name;
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
