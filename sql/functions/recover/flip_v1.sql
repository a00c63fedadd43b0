-- Puts jobs whose rows the caller has locked into another state, queued or paused, and returns the ids of those that it
-- flipped.
-- A lease of such a job ends, and its attempt is given back (on run_at see return_crashed_v1; settle_v1 does the same in its
-- own words). If the database refuses one of the jobs (a trigger or a unique index of the application), it warns and leaves
-- that job unchanged. The others are flipped. A row that a trigger skips stays without a warning. Want of memory or
-- disk (class 53) is raised, because it is about no single job.
CREATE OR REPLACE FUNCTION flip_v1(p_ids bigint[], p_state text) RETURNS bigint[]
LANGUAGE plpgsql SET search_path = pg_catalog, :"schema", pg_temp SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    v_done bigint[] := '{}';
BEGIN
    WITH flipped AS (
    UPDATE :"schema".jobs
       SET run_at = CASE WHEN state = 'processing' THEN least(run_at, clock_timestamp()) ELSE run_at END,
           attempts = CASE WHEN state = 'processing' THEN greatest(attempts, 1) - 1 ELSE attempts END, state = p_state,
           leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
     WHERE id = ANY (p_ids)
    RETURNING id)
    SELECT coalesce(pg_catalog.array_agg(id), '{}') INTO v_done FROM flipped;
    RETURN v_done;
EXCEPTION
  WHEN insufficient_resources THEN  -- the whole class 53
    RAISE;
  WHEN OTHERS THEN
    IF pg_catalog.cardinality(p_ids) = 1 THEN
        RAISE WARNING 'the database refuses to put job % into the state %: %', p_ids[1], p_state, SQLERRM;
        RETURN v_done;
    END IF;
    FOR n IN 1 .. pg_catalog.cardinality(p_ids) LOOP
        v_done := pg_catalog.array_cat(v_done, :"schema".flip_v1(p_ids[n:n], p_state));
    END LOOP;
    RETURN v_done;
END $$;
