-- Lists jobs in the order of their ids, as one JSON object each (shown_job_v1, with at most 4 KiB of a payload).
-- p_state and p_kind select; null means any. It returns at most p_limit jobs, with ids above p_after.
-- Paused, failed and running jobs are few among many queued ones, and may have the highest ids of all. So they are found
-- through their own index, kind by kind, and not by a walk over the table in the order of ids.
CREATE OR REPLACE FUNCTION list_jobs_v1(p_state text, p_kind text, p_limit integer, p_after bigint DEFAULT NULL)
RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
    v_after bigint := coalesce(p_after, -9223372036854775808);
    v_kind  text := coalesce(p_kind, '');  -- below the least
    v_below bigint := 9223372036854775807;
    v_more  bigint[];
    v_ids   bigint[] := '{}';
BEGIN
    IF p_state = 'processing' THEN
        v_ids := ARRAY(SELECT j.id FROM jobs j WHERE j.state = 'processing');
    ELSIF p_state IN ('paused', 'failed') THEN
        LOOP
            IF p_kind IS NULL THEN
                SELECT j.kind INTO v_kind FROM jobs j
                 WHERE j.state = p_state AND j.state IN ('paused', 'failed')
                   AND (j.kind, j.id) > (v_kind, 9223372036854775807)
                 ORDER BY j.kind, j.id LIMIT 1;
            END IF;
            EXIT WHEN v_kind IS NULL;
            v_more := ARRAY(SELECT j.id FROM jobs j
                             WHERE j.state = p_state AND j.state IN ('paused', 'failed')
                               AND (j.kind, j.id) > (v_kind, v_after) AND (j.kind, j.id) <= (v_kind, v_below)
                             ORDER BY j.kind, j.id LIMIT p_limit);
            IF v_more <> '{}' THEN
                -- Only the least ids are kept, and of further kinds only lower ones are read.
                v_ids := ARRAY(SELECT u.id FROM unnest(v_ids || v_more) u (id) ORDER BY u.id LIMIT p_limit);
                v_below := coalesce(v_ids[p_limit], v_below);
            END IF;
            EXIT WHEN p_kind IS NOT NULL;
        END LOOP;
    ELSE
        RETURN QUERY
        SELECT shown_job_v1(j, 4096) FROM jobs j
         WHERE (p_state IS NULL OR j.state = p_state) AND (p_kind IS NULL OR j.kind = p_kind) AND j.id > v_after
         ORDER BY j.id LIMIT p_limit;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT shown_job_v1(j, 4096) FROM jobs j
     WHERE j.id = ANY (v_ids) AND j.id > v_after AND (p_kind IS NULL OR j.kind = p_kind)
     ORDER BY j.id LIMIT p_limit;
END $$;
