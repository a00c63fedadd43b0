-- Finds the jobs that an action would change and that a selection means, and changes nothing. Returns one row:
--   ids        of these jobs, ascending; at most p_limit, the lowest
--   examples   the first three jobs (shown_job_v1, with at most 200 bytes of the payload)
--   selection  p_where as change_jobs_v1 takes it: older_than (in seconds) has become created_before, a fixed time
--   statement  the SELECT that found them
--   left_alone how many more jobs the selection means, by the reason why the action leaves them alone: their state, or
--              unchanged (they are already so)
-- The arguments are those of select_statement_v1.
CREATE OR REPLACE FUNCTION select_jobs_v1(
    p_action text, p_with jsonb, p_where jsonb, p_limit bigint DEFAULT NULL,
    OUT ids bigint[], OUT examples jsonb, OUT selection jsonb, OUT statement text, OUT left_alone jsonb
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
DECLARE
    v_found record;
BEGIN
    SELECT * INTO v_found FROM select_statement_v1(p_action, p_with, p_where, p_limit);
    selection := v_found.selection;
    statement := v_found.statement;
    EXECUTE format('SELECT coalesce(array_agg(f.id), ''{}'') FROM (%s) f', statement) INTO ids;
    examples := (SELECT coalesce(jsonb_agg(shown_job_v1(j, 200) ORDER BY j.id), '[]') FROM jobs j WHERE j.id = ANY (ids[:3]));
    EXECUTE format(
        'SELECT coalesce(jsonb_object_agg(w.why, w.jobs), ''{}'') FROM'
        ' (SELECT CASE WHEN %2$s THEN ''unchanged'' ELSE j.state END AS why, count(*) AS jobs'
        ' FROM %1$I.jobs j WHERE %3$s AND NOT (%2$s AND %4$s) GROUP BY 1) w',
        current_schema(), v_found.applies, job_condition_v1(NULL, '{}', selection), v_found.differs) INTO left_alone;
END $$;
