-- Puts the next paused jobs of a kind back into the queue (paused → queued), oldest first, including those paused by hand.
-- p_limit is the most jobs of a batch. A batch begins where the last one ended (p_after), as in mirror_pause_v1. Returns one
-- row:
--   flipped  how many jobs it put back
--   after    the p_after of the next call
--   refused  how many jobs the database refused to flip (flip_v1); they stay paused
-- No row means that all jobs were tried.
-- Called again and again by resume-kind, one transaction for each batch. It runs with the rights of the owner, because a flip
-- clears what remains of a lease. An operator has no right to write a token.
CREATE OR REPLACE FUNCTION unpause_v1(
    p_kind text, p_after bigint DEFAULT -9223372036854775808, p_limit integer DEFAULT 5000
) RETURNS TABLE (flipped integer, after bigint, refused integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
DECLARE
    v_ids bigint[];
BEGIN
    SELECT pg_catalog.array_agg(w.id) INTO v_ids
      FROM (SELECT j.id FROM :"schema".jobs j
             WHERE j.state = 'paused'  -- through jobs_parked, not over all jobs in the order of ids
               AND (j.kind, j.id) > (p_kind, p_after) AND (j.kind, j.id) <= (p_kind, 9223372036854775807)
             ORDER BY j.kind, j.id LIMIT p_limit
               FOR UPDATE) w;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;
    flipped := pg_catalog.cardinality(:"schema".flip_v1(v_ids, 'queued'));
    after := v_ids[pg_catalog.cardinality(v_ids)];
    refused := pg_catalog.cardinality(v_ids) - flipped;
    RETURN NEXT;
    PERFORM :"schema".wake_v1();
END $$;
