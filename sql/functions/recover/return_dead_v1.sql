-- Takes jobs back from owners that are gone (return_crashed_v1), one by one if the database refuses to take all at once.
-- So a job that the database refuses to return (a trigger or a unique index of the application) keeps no other from
-- returning. A job that cannot be queued again fails, with the reason. A job that cannot even fail keeps its lease, with a
-- warning, until the next attempt.
-- The caller has locked the rows of p_ids, and says in p_error why their owner is gone. A job that runs again does so p_delay
-- seconds later at the earliest. Called by sweep_v1, sweep_silent_v1, release_worker_v1 and return_recorded_v1.
CREATE OR REPLACE FUNCTION return_dead_v1(p_ids bigint[], p_error text, p_delay double precision DEFAULT 0)
RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_ids  bigint[];
    v_held bigint[];  -- for each job: how many leases its owner has, including those that have not expired
    v_why  text;
BEGIN
    SELECT array_agg(o.id), array_agg(o.held) INTO v_ids, v_held
      FROM (SELECT j.id, count(*) OVER (PARTITION BY coalesce(j.worker_id::text, j.id::text)) AS held
              FROM :"schema".jobs j WHERE j.state = 'processing') o
     WHERE o.id = ANY (p_ids);
    BEGIN
        RETURN QUERY SELECT r.* FROM :"schema".return_crashed_v1(v_ids, v_held, p_error, p_delay => p_delay) r;
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        IF v_ids IS NULL OR SQLSTATE LIKE '53%' THEN
            RAISE;
        END IF;
    END;
    FOR n IN 1 .. cardinality(v_ids) LOOP
        BEGIN
            RETURN QUERY SELECT r.* FROM :"schema".return_crashed_v1(v_ids[n:n], v_held[n:n], p_error, p_delay => p_delay) r;
        EXCEPTION WHEN OTHERS THEN
            v_why := SQLERRM;
            BEGIN
                IF SQLSTATE LIKE '53%' OR SQLSTATE LIKE '40%' OR SQLSTATE = '55P03' THEN
                    RAISE;  -- this error passes
                END IF;
                RETURN QUERY SELECT r.* FROM :"schema".return_crashed_v1(v_ids[n:n], v_held[n:n], p_error, v_why) r;
            EXCEPTION WHEN OTHERS THEN
                RAISE WARNING 'the database refuses to return job % from its dead owner: %', v_ids[n], v_why;
            END;
        END;
    END LOOP;
END $$;
