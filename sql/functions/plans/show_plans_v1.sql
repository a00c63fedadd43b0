-- Returns a plan, or with null each plan that is kept, newest first, as JSON: the columns of job_plans, and three more.
--   state     open, expired, begun or applied
--   audits    the audit rows: one for each actor who applied a part
--   examples  the first three of its jobs as they are now (shown_job_v1, with at most 200 bytes of the payload)
CREATE OR REPLACE FUNCTION show_plans_v1(p_plan text DEFAULT NULL) RETURNS SETOF jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT to_jsonb(p) || jsonb_build_object(
               'at', readable_v1(p.at), 'expires_at', readable_v1(p.expires_at), 'applied_at', readable_v1(p.applied_at),
               'state', CASE WHEN p.applied_at IS NOT NULL THEN 'applied' WHEN p.done > 0 THEN 'begun'
                             WHEN p.expires_at <= clock_timestamp() THEN 'expired' ELSE 'open' END,
               'audits', ARRAY(SELECT DISTINCT c.audit_id FROM job_plan_chunks c
                                WHERE c.plan_id = p.id AND c.audit_id IS NOT NULL ORDER BY 1),
               'examples', (SELECT coalesce(jsonb_agg(shown_job_v1(j, 200) ORDER BY j.id), '[]')
                              FROM job_plan_chunks c JOIN jobs j ON j.id = ANY (c.job_ids[:3])
                             WHERE c.plan_id = p.id AND c.number = 1))
      FROM job_plans p WHERE p_plan IS NULL OR p.name = p_plan ORDER BY p.id DESC
$$;
