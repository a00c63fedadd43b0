-- Writes rows into the history, and makes the day partition that they need if it is missing.
-- A day is missing if nobody made it ahead, or if the clock jumped. The function calls ensure_history_v1 and tries again.
-- If another session makes the days, it waits for 50 ms before that. After 20 attempts it raises the error. A CHECK
-- constraint of the application makes it fail at once.
-- settle_v1 does not call it, because the exception block would cost each job. A worker whose settle finds no day makes the
-- day and settles again.
CREATE OR REPLACE FUNCTION record_v1(p_rows job_history[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_constraint text;
BEGIN
    FOR try IN 1 .. 20 LOOP
        BEGIN
            INSERT INTO :"schema".job_history SELECT * FROM pg_catalog.unnest(p_rows);
            RETURN;
        EXCEPTION WHEN check_violation THEN
            GET STACKED DIAGNOSTICS v_constraint = CONSTRAINT_NAME;
            IF try = 20 OR v_constraint <> '' THEN  -- a CHECK of the application
                RAISE;
            ELSIF :"schema".ensure_history_v1() = 0 THEN
                PERFORM pg_catalog.pg_sleep(0.05);  -- another session makes it
            END IF;
        END;
    END LOOP;
END $$;
