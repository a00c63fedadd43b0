-- Returns for each job that an action did not change why, by its id; change_jobs_v1 lists the words.
-- p_tried and p_changed are the ids that change_slice_v1 returned. The other arguments are those that it got.
CREATE OR REPLACE FUNCTION why_unchanged_v1(
    p_action text, p_ids bigint[], p_with jsonb, p_condition text, p_faces jsonb[], p_tried bigint[], p_changed bigint[]
) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
SET jit = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
DECLARE
    v_left  bigint[] := ARRAY(SELECT i FROM pg_catalog.unnest(p_ids) i EXCEPT SELECT i FROM pg_catalog.unnest(p_changed) i);
    v_meant bigint[];
    v_so    bigint[];
BEGIN
    IF v_left = '{}' THEN
        RETURN '{}';
    END IF;
    EXECUTE pg_catalog.format(
        'SELECT pg_catalog.array_agg(j.id) FILTER (WHERE %2$s AND (w.face IS NULL OR %1$I.same_face_v1(w.face, %3$s))),'
        ' pg_catalog.array_agg(j.id) FILTER (WHERE (%4$s) IS NOT TRUE)'
        ' FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) w (id, face), %1$I.jobs j WHERE w.id = ANY ($3) AND j.id = w.id',
        :'schema', p_condition, :"schema".face_now_v1('w.face'), :"schema".job_differs_v1(p_action, p_with))
       INTO v_meant, v_so USING p_ids, p_faces, v_left;
    RETURN (SELECT pg_catalog.jsonb_object_agg(l.id, CASE
                WHEN j.id IS NULL THEN 'no such job'
                WHEN l.id = ANY (p_tried) THEN CASE WHEN l.id = ANY (v_so) THEN 'unchanged' ELSE 'trigger' END
                WHEN l.id = ANY (v_meant) THEN 'locked'
                WHEN (p_action = 'release') <> (j.state = 'processing') OR p_action = 'retry' AND j.state = 'paused' THEN j.state
                WHEN p_action = 'release' AND :"schema".lives_v1(b.beat_at)
                    THEN pg_catalog.format('alive: %s beat %s s ago', j.leased_by,
                                           pg_catalog.round(:"schema".seconds_since_v1(b.beat_at)::numeric, 1))
                ELSE 'changed' END)
              FROM pg_catalog.unnest(v_left) l (id)
              LEFT JOIN :"schema".jobs j ON j.id = l.id
              LEFT JOIN :"schema".beats b ON b.worker_id = j.worker_id);
END $$;
