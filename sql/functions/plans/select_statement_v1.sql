-- Returns the SELECT that finds the jobs which an action would change and which a selection means. It reads no job. One row:
--   selection  p_where as change_jobs_v1 takes it: older_than (in seconds) has become created_before, a fixed time
--   applies    the condition of job_condition_v1
--   differs    the condition that the action changes the job: it is not already so
--   statement  the SELECT: ids, ascending; at most p_limit, unless it is null
-- p_action, p_with and p_where are those of job_condition_v1. p_where can have older_than, too. Raises an error if p_with cannot
-- be meant. Called by select_jobs_v1 and plan_jobs_v1.
CREATE OR REPLACE FUNCTION select_statement_v1(
    p_action text, p_with jsonb, p_where jsonb, p_limit bigint,
    OUT selection jsonb, OUT applies text, OUT differs text, OUT statement text
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
BEGIN
    selection := p_where - 'older_than' || pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'created_before',
        pg_catalog.statement_timestamp() - pg_catalog.make_interval(secs => (p_where->>'older_than')::double precision)));
    applies := :"schema".job_condition_v1(p_action, p_with, selection);
    PERFORM :"schema".wanted_job_v1(NULL, p_action, p_with);
    differs := :"schema".job_differs_v1(p_action, p_with);
    statement := pg_catalog.format('SELECT j.id FROM %I.jobs j WHERE %s%s ORDER BY j.id%s', :'schema', applies,
                                   ' AND ' || nullif(differs, 'true'), ' LIMIT ' || p_limit);
END $$;
