-- Counts what prune_audit_v1 would drop now: rows of the audit record, and how many more would lose the old values of the jobs.
CREATE OR REPLACE FUNCTION old_audit_v1(p_audit_days integer, p_undo_days integer, OUT dropped bigint, OUT forgotten bigint)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT count(*) FILTER (WHERE a.old), count(*) FILTER (WHERE NOT a.old AND a.jobs > 0 AND a.forgotten_at IS NULL)
      FROM (SELECT at < statement_timestamp() - make_interval(days => p_audit_days) AS old, jobs, forgotten_at FROM audit
             WHERE at < statement_timestamp() - make_interval(days => least(p_audit_days, p_undo_days))) a
$$;
