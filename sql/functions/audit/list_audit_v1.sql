-- Lists rows of the audit record, as audit_row_v1: the newest p_limit, and of these the newest last.
-- The arguments select; null means any. p_actor is an actor, an actor's name without its host, or a login. p_job is a job that
-- the row changed.
CREATE OR REPLACE FUNCTION list_audit_v1(
    p_action text, p_actor text, p_job bigint, p_since timestamptz, p_before timestamptz, p_limit integer
) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off
AS $$
DECLARE
    v_rows bigint[] := ARRAY(SELECT DISTINCT c.audit_id FROM audit_chunks c
                              WHERE c.span @> p_job::numeric AND p_job = ANY (c.job_ids));
BEGIN
    RETURN QUERY
    SELECT audit_row_v1(n.row)
      FROM (SELECT a AS row FROM audit a
             WHERE (p_action IS NULL OR a.action = p_action)
               AND (p_actor IS NULL OR a.actor = p_actor OR starts_with(a.actor, p_actor || '@') OR a.login = p_actor)
               AND (p_job IS NULL OR a.id = ANY (v_rows) OR p_job = ANY (a.job_ids))
               AND (p_since IS NULL OR a.at >= p_since) AND (p_before IS NULL OR a.at < p_before)
             ORDER BY a.id DESC LIMIT p_limit) n
     ORDER BY (n.row).id;
END $$;
