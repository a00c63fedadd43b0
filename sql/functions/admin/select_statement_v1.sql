-- Returns the SELECT that finds the jobs to which an action applies and which a selection means. It reads nothing. One row:
--   selection  p_where as change_jobs_v1 takes it: older_than (in seconds) has become created_before, a fixed time
--   statement  the SELECT: ids, ascending
-- p_action, p_with and p_where are those of job_condition_v1. p_where can have older_than, too. p_ids, unless null: only
-- these jobs. p_limit, unless null: at most so many. Called by select_jobs_v1 and plan_jobs.
CREATE OR REPLACE FUNCTION select_statement_v1(
    p_action text, p_with jsonb, p_where jsonb, p_limit bigint, p_ids bigint[], OUT selection jsonb, OUT statement text
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
BEGIN
    selection := p_where - 'older_than' || pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'created_before',
        pg_catalog.statement_timestamp() - pg_catalog.make_interval(secs => (p_where->>'older_than')::double precision)));
    statement := pg_catalog.format(
        'SELECT j.id FROM %I.jobs j WHERE %s%s ORDER BY j.id%s', :'schema',
        :"schema".job_condition_v1(p_action, p_with, selection),
        ' AND j.id = ANY (' || pg_catalog.quote_literal(p_ids) || '::bigint[])', ' LIMIT ' || p_limit);
END $$;
