-- Finds the jobs to which an action applies and which a selection means, and changes nothing. Returns one row:
--   ids        of these jobs, ascending; at most p_limit, the lowest
--   examples   the first three jobs (shown_job_v1, with at most 200 bytes of the payload)
--   selection  p_where as change_jobs_v1 takes it: older_than (in seconds) has become created_before, a fixed time
--   statement  the SELECT that found them
-- The arguments are those of select_statement_v1.
CREATE OR REPLACE FUNCTION select_jobs_v1(
    p_action text, p_with jsonb, p_where jsonb, p_limit bigint DEFAULT NULL, p_ids bigint[] DEFAULT NULL,
    OUT ids bigint[], OUT examples jsonb, OUT selection jsonb, OUT statement text
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
BEGIN
    SELECT s.selection, s.statement INTO selection, statement
      FROM select_statement_v1(p_action, p_with, p_where, p_limit, p_ids) s;
    EXECUTE format('SELECT coalesce(array_agg(f.id), ''{}'') FROM (%s) f', statement) INTO ids;
    examples := (SELECT coalesce(jsonb_agg(shown_job_v1(j, 200) ORDER BY j.id), '[]') FROM jobs j WHERE j.id = ANY (ids[:3]));
END $$;
