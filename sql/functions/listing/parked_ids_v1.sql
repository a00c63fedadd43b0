-- Returns the lowest ids above p_after of the paused or the failed jobs, at most p_limit; p_state says which. p_kind: null means
-- all kinds. They are found kind by kind through the index jobs_parked, which has them in the order of their ids. So the cost
-- grows with the number of kinds, and not with that of jobs. Called by list_jobs_v1.
CREATE OR REPLACE FUNCTION parked_ids_v1(p_state text, p_kind text, p_limit integer, p_after bigint) RETURNS bigint[]
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
    v_kind  text := coalesce(p_kind, '');  -- below the least
    v_below bigint := 9223372036854775807;
    v_after bigint;
    v_rows  integer;
    v_more  bigint[];
    v_ids   bigint[] := '{}';
BEGIN
    LOOP
        IF p_kind IS NULL THEN
            SELECT j.kind INTO v_kind FROM jobs j
             WHERE j.state = p_state AND j.state IN ('paused', 'failed')
               AND (j.kind, j.id) > (v_kind, 9223372036854775807)
             ORDER BY j.kind, j.id LIMIT 1;
        END IF;
        EXIT WHEN v_kind IS NULL;
        -- Only the lowest ids are kept, and of further kinds only lower ones are read, a few at a time: PostgreSQL 15 would not
        -- end a scan at an id, but at the end of the kind.
        v_after := p_after;
        v_rows := least(p_limit, 4);
        LOOP
            v_more := ARRAY(SELECT j.id FROM jobs j
                             WHERE j.state = p_state AND j.state IN ('paused', 'failed')
                               AND (j.kind, j.id) > (v_kind, v_after) AND (j.kind, j.id) <= (v_kind, 9223372036854775807)
                             ORDER BY j.kind, j.id LIMIT v_rows);
            v_ids := v_ids || v_more;
            v_after := v_more[v_rows];
            EXIT WHEN v_after IS NULL OR v_after >= v_below OR v_rows = p_limit;
            v_rows := least(p_limit, 4 * v_rows);
        END LOOP;
        v_ids := ARRAY(SELECT u.id FROM unnest(v_ids) u (id) ORDER BY u.id LIMIT p_limit);
        v_below := coalesce(v_ids[p_limit], v_below);
        EXIT WHEN p_kind IS NOT NULL;
    END LOOP;
    RETURN v_ids;
END $$;
