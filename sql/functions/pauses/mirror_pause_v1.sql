-- Marks the next jobs of a paused kind as paused (queued → paused), in the order in which they would have run.
-- It marks only jobs that waited when the pause began. The state paused only mirrors the hold; the lease obeys the hold.
-- p_limit is the most jobs of a batch. A batch begins where the last one ended (p_after; null for the first). So it never
-- walks again over jobs that were flipped, cleaned away or left. Returns one row:
--   flipped  how many jobs it marked
--   after    the p_after of the next call
--   refused  how many jobs the database refused to flip (flip_v1); they stay queued
-- No row means that all jobs were tried, that the pause is over, or that it has a ramp.
-- Called again and again by pause-kind, one transaction for each batch. It runs with the rights of the owner, because an
-- operator has no right to lock a hold.
CREATE OR REPLACE FUNCTION mirror_pause_v1(p_hold bigint, p_after jsonb DEFAULT NULL, p_limit integer DEFAULT 5000)
RETURNS TABLE (flipped integer, after jsonb, refused integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
DECLARE
    v_hold     :"schema".holds;
    v_ids      bigint[];
    v_after    jsonb;
    v_priority smallint    := coalesce((p_after->>'priority')::smallint, -32768);
    v_run_at   timestamptz := coalesce((p_after->>'run_at')::timestamptz, '-infinity');
    v_id       bigint      := coalesce((p_after->>'id')::bigint, -9223372036854775808);
BEGIN
    -- A shared lock: a resume waits for this batch, and then flips back the jobs that the batch flipped.
    SELECT * INTO v_hold FROM :"schema".holds WHERE id = p_hold FOR SHARE;
    IF NOT FOUND OR EXISTS (SELECT FROM :"schema".ramps WHERE hold_id = p_hold) THEN
        RETURN;
    END IF;
    SELECT pg_catalog.array_agg(w.id), (pg_catalog.array_agg(pg_catalog.jsonb_build_object('priority', w.priority, 'run_at', w.run_at, 'id', w.id)))[count(*)]
      INTO v_ids, v_after
      FROM (SELECT j.priority, j.run_at, j.id FROM :"schema".jobs j
             WHERE j.state = 'queued' AND j.kind = v_hold.target
               AND (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
               AND j.created_at <= v_hold.created
             ORDER BY j.priority, j.run_at, j.id
             LIMIT p_limit
               FOR UPDATE SKIP LOCKED) w;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;
    flipped := pg_catalog.cardinality(:"schema".flip_v1(v_ids, 'paused'));
    after := v_after;
    refused := pg_catalog.cardinality(v_ids) - flipped;
    RETURN NEXT;
END $$;
