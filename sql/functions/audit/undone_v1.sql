-- Returns how many jobs of an audit row are undone now. What was undone and then done again does not count.
-- Called by list_audit_v1 and show_audit_v1.
CREATE OR REPLACE FUNCTION undone_v1(p_audit bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN (SELECT coalesce(sum(u.jobs - undone_v1(u.id)), 0)
              FROM audit u WHERE u.action = 'undo' AND u.detail->'undoes' = to_jsonb(p_audit));
END $$;
