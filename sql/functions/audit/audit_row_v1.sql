-- Returns an audit row as JSON that every client can read. `detail` is a text in it, because a client may be unable to parse it
-- (too deep, or too many digits). It is cut at 100,000 characters, and the reason at 10,000. The other columns, and
--   undoes     the row that it undid; null if it is no undo
--   undone     how many of its jobs are undone now
--   undone_by  the audit rows of its undos
-- jobs counts the jobs also in rows of earlier versions. Called by list_audit_v1 and show_audit_v1.
CREATE OR REPLACE FUNCTION audit_row_v1(p_audit audit) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
DECLARE
    v_detail jsonb := p_audit.detail;
BEGIN
    IF p_audit.action IN ('pause', 'drain', 'ramp') AND v_detail->>'until' IS NOT NULL THEN
        v_detail := jsonb_set(v_detail, '{until}', to_jsonb(readable_v1((v_detail->>'until')::timestamptz)));
    END IF;
    RETURN to_jsonb(p_audit) || jsonb_build_object(
        'at', readable_v1(p_audit.at),
        'forgotten_at', readable_v1(p_audit.forgotten_at),
        'reason', left(p_audit.reason, 10000),
        'detail', left(v_detail::text, 100000),
        'jobs', greatest(p_audit.jobs, cardinality(p_audit.job_ids)),
        'undoes', CASE WHEN p_audit.action = 'undo' AND p_audit.detail->>'undoes' ~ '^[0-9]{1,18}$'
                       THEN (p_audit.detail->>'undoes')::bigint END,
        'undone', undone_v1(p_audit.id),
        'undone_by', ARRAY(SELECT u.id FROM audit u WHERE u.action = 'undo' AND u.detail->'undoes' = to_jsonb(p_audit.id) ORDER BY 1));
END $$;
