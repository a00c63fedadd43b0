-- Returns as a text what a change made of a job. The arguments are its faces before and after (job_face_v1); null means that
-- there is no such job. It tells each column that differs and that both have: `<column>: <old> -> <new>; ...`. A value of more than 80
-- characters is cut. Of a payload only the name is told. Called by undo_fates_v1, undo_preview_v1 and audit_changes_v1.
CREATE OR REPLACE FUNCTION change_text_v1(p_old jsonb, p_new jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN p_new IS NULL THEN format('%s -> gone', p_old->>'state')
        WHEN p_old IS NULL THEN format('gone -> %s', p_new->>'state')
        ELSE (SELECT string_agg(CASE WHEN n.key = 'payload' THEN 'payload'
                                     ELSE format('%s: %s -> %s', n.key, left((p_old->n.key)::text, 80), left(n.value::text, 80)) END,
                                '; ' ORDER BY n.key)
                FROM jsonb_each(CASE WHEN jsonb_typeof(p_new) = 'object' THEN p_new ELSE '{}' END) n
               WHERE p_old ? n.key AND n.value IS DISTINCT FROM p_old->n.key)
        END
$$;
