-- Returns the jobs of the next chunk of an audit row, in the order of the ids.
-- Each comes with its faces before and after the change (job_face_v1). They are texts, because a client may be unable to parse
-- a column that an application has added. p_after is the chunk where the last call ended; 0 at first. No row means that there
-- is no further chunk.
CREATE OR REPLACE FUNCTION audit_changes_v1(p_audit bigint, p_after bigint, p_limit integer)
RETURNS TABLE (chunk bigint, job_id bigint, before text, after text, changes text)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT c.id, e.id, e.before::text, e.after::text, change_text_v1(e.before, e.after)
      FROM (SELECT * FROM audit_chunks WHERE audit_id = p_audit AND id > p_after ORDER BY id LIMIT 1) c,
           ROWS FROM (unnest(c.job_ids), unnest(c.before), unnest(c.after)) e (id, before, after)
     ORDER BY e.id LIMIT p_limit
$$;
