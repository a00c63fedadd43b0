-- Writes rows of the history, and makes the day that they belong to if it is missing: nobody made it ahead, or the clock
-- leapt. For everybody but settle_v1, in which the exception's block would cost each job: a worker whose settle found no
-- day makes it and settles again.
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
            IF try = 20 OR v_constraint <> '' THEN  -- a CHECK of the application's
                RAISE;
            ELSIF :"schema".ensure_history_v1() = 0 THEN
                PERFORM pg_catalog.pg_sleep(0.05);  -- somebody else is making it
            END IF;
        END;
    END LOOP;
END $$;
