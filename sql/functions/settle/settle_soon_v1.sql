-- settle_v1, but waiting for nobody: a job whose row somebody else has locked is left as it is, and the others are settled. What
-- only shows itself in the writing (a lock on the table, or one that a trigger of the application waits for) is waited for, for
-- 0.1 s; then it fails. Returns those that are not settled: locked, or else lost. Called by both threads of a worker for what a
-- turn didn't settle.
CREATE OR REPLACE FUNCTION settle_soon_v1(
    p_ids bigint[], p_tokens uuid[], p_outcomes text[], p_delays double precision[], p_errors text[], p_retentions text[]
) RETURNS TABLE (id bigint, locked boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '0.1s'
-- As in settle_v1: by the primary key, whatever the planner believes to know about a queue.
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_locked bigint[];
BEGIN
    WITH free AS MATERIALIZED (
        SELECT j.id FROM jobs j
         WHERE j.id = ANY (p_ids) AND j.lease_token = ANY (p_tokens) AND j.state || '' = 'processing'
           FOR UPDATE SKIP LOCKED
    )
    SELECT array_agg(j.id) INTO v_locked FROM jobs j
     WHERE j.id = ANY (p_ids) AND j.lease_token = ANY (p_tokens) AND j.state || '' = 'processing'
       AND NOT EXISTS (SELECT FROM free f WHERE f.id = j.id);
    IF v_locked IS NOT NULL THEN  -- the arrays run in parallel: each keeps its place
        p_ids := ARRAY(SELECT CASE WHEN e.id <> ALL (v_locked) THEN e.id END
                         FROM unnest(p_ids) WITH ORDINALITY e (id, n) ORDER BY n);
    END IF;
    RETURN QUERY SELECT s.id, false FROM settle_v1(p_ids, p_tokens, p_outcomes, p_delays, p_errors, p_retentions) s (id)
                  WHERE s.id IS NOT NULL;
    RETURN QUERY SELECT l.id, true FROM unnest(v_locked) l (id);
END $$;
