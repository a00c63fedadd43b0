-- Says what undo_change_v1 would do to the next chunk of an audit row, and changes nothing. It takes no lock, so it can't tell
-- which jobs another session has locked. p_after is that of undo_change_v1. Returns one row:
--   chunk     the p_after of the next call; null if there is no further chunk
--   restored  how many jobs it would restore
--   refused   why it would leave each other job, by its id
--   examples  the first three that it would restore: id, and changes (change_text_v1)
CREATE OR REPLACE FUNCTION undo_preview_v1(
    p_audit bigint, p_after bigint, OUT chunk bigint, OUT restored integer, OUT refused jsonb, OUT examples jsonb
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    chunk := (SELECT c.id FROM audit_chunks c WHERE c.audit_id = p_audit AND c.id > p_after ORDER BY c.id LIMIT 1);
    SELECT count(*) FILTER (WHERE f.fate IS NULL),
           coalesce(jsonb_object_agg(f.job_id, f.fate) FILTER (WHERE f.fate IS NOT NULL), '{}'),
           coalesce(jsonb_path_query_array(jsonb_agg(jsonb_build_object('id', f.job_id, 'changes', change_text_v1(f.after, f.before))
                                                     ORDER BY f.job_id) FILTER (WHERE f.fate IS NULL), '$[0 to 2]'), '[]')
      INTO restored, refused, examples
      FROM undo_fates_v1(p_audit, chunk, NULL) f;
END $$;
