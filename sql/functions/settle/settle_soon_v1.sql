-- Settles jobs as settle_v1 does, but skips those that somebody has locked.
-- The arguments are those of settle_v1. A wait may still occur in the write: for a lock on the table, or in a trigger of the
-- application. It lasts at most 0.1 s; then the call fails (lock_timeout).
-- Returns the jobs that are not settled: locked is true for a locked one, and false for a lost lease.
-- Called by both threads of a worker for what a turn did not settle.
CREATE OR REPLACE FUNCTION settle_soon_v1(
    p_ids bigint[], p_tokens uuid[], p_outcomes text[], p_delays double precision[], p_errors text[], p_retentions text[]
) RETURNS TABLE (id bigint, locked boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '0.1s'
-- As in settle_v1: one plan, by the primary key, because the planner's statistics of a queue are never up to date.
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
    IF v_locked IS NOT NULL THEN  -- the arrays run in parallel, so each item keeps its place
        p_ids := ARRAY(SELECT CASE WHEN e.id <> ALL (v_locked) THEN e.id END
                         FROM unnest(p_ids) WITH ORDINALITY e (id, n) ORDER BY n);
    END IF;
    RETURN QUERY SELECT s.id, false FROM settle_v1(p_ids, p_tokens, p_outcomes, p_delays, p_errors, p_retentions) s (id)
                  WHERE s.id IS NOT NULL;
    RETURN QUERY SELECT l.id, true FROM unnest(v_locked) l (id);
END $$;
