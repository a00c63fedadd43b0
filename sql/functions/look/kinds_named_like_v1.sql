-- Lists kinds whose names begin with p_prefix, some of them twice: of jobs, pauses and workers.
-- Of jobs that wait, are paused or failed it finds at most p_most kinds each. It skips from kind to kind through the indexes, at
-- most 1,000 times in each. Called by the shell's completion.
CREATE OR REPLACE FUNCTION kinds_named_like_v1(p_prefix text, p_most integer DEFAULT 100) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
DECLARE
    v_kind  text;
    v_state text;
    v_found integer;
BEGIN
    RETURN QUERY
    SELECT p_prefix WHERE EXISTS (SELECT FROM jobs j WHERE j.state = 'queued' AND j.kind = p_prefix)
                       OR EXISTS (SELECT FROM jobs j WHERE j.state = 'paused' AND j.kind = p_prefix)
                       OR EXISTS (SELECT FROM jobs j WHERE j.state = 'failed' AND j.kind = p_prefix)
    UNION ALL
    SELECT j.kind FROM jobs j WHERE j.state = 'processing' AND starts_with(j.kind, p_prefix)
    UNION ALL
    SELECT h.target FROM standing_holds h WHERE h.scope = 'kind' AND starts_with(h.target, p_prefix)
    UNION ALL
    (SELECT k.kind FROM workers w, unnest(w.kinds) AS k (kind) WHERE starts_with(k.kind, p_prefix) LIMIT 1000);
    FOREACH v_state IN ARRAY ARRAY['queued', 'paused', 'failed'] LOOP
        v_found := 0;
        v_kind := p_prefix;
        FOR v_step IN 1..1000 LOOP
            IF v_state = 'queued' THEN
                SELECT min(j.kind) INTO v_kind FROM jobs j WHERE j.state = 'queued' AND j.kind > v_kind;
            ELSE
                SELECT j.kind INTO v_kind FROM jobs j
                 WHERE j.state = v_state AND j.state IN ('paused', 'failed')
                   AND (j.kind, j.id) > (v_kind, 9223372036854775807)
                 ORDER BY j.kind, j.id LIMIT 1;
            END IF;
            EXIT WHEN v_kind IS NULL OR v_found >= p_most;
            IF starts_with(v_kind, p_prefix) THEN
                v_found := v_found + 1;
                RETURN NEXT v_kind;
            END IF;
        END LOOP;
    END LOOP;
END $$;
