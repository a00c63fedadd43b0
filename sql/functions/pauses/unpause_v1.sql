-- paused → queued for the next p_limit jobs of a kind, oldest first, those paused by hand too. Returns how many were
-- flipped, where to go on (p_after) and how many the database refused to flip (flip_v1), which stay paused; no row when all
-- were tried. A batch begins where the last one ended, as in mirror_pause_v1. Called again and again by
-- resume-kind, each batch a transaction. As the owner: what is put back has no lease, and an operator has no right to a token.
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
             WHERE j.state = 'paused'  -- by the index of what is paused, not in the order of ids through all jobs
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
