-- The payloads of leased jobs that lease_v1 left out of its answer, in the order of p_ids: of the first, and of as many
-- more as are stored in 1 MiB, so that no answer grows beyond what a worker wants in its memory. No row: the lease is lost,
-- or it is not yet its turn. Called by the main thread when the first job's turn comes.
CREATE OR REPLACE FUNCTION payloads_v1(p_ids bigint[], p_token uuid) RETURNS TABLE (id bigint, payload text)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
-- As in settle_v1: by the primary key, whatever the planner believes to know about a queue.
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT m.id, m.payload::text
      FROM (SELECT j.id, j.payload, e.at,
                   sum(pg_column_size(j.payload)) OVER (ORDER BY e.at ROWS UNBOUNDED PRECEDING) AS stored
              FROM unnest(p_ids) WITH ORDINALITY e (id, at), jobs j
             WHERE j.id = e.id AND j.lease_token = p_token AND j.state || '' = 'processing') m
     WHERE m.at = 1 OR m.stored <= 1048576
     ORDER BY m.at;
END $$;
