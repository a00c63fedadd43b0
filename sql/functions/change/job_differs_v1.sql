-- Returns a condition on the row j of jobs, as SQL: the action changes the job, because it is not already as wanted_job_v1 wants
-- it. The arguments are those of wanted_job_v1. Called by select_statement_v1, plan_changes_v1 and why_unchanged_v1.
CREATE OR REPLACE FUNCTION job_differs_v1(p_action text, p_with jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO'
AS $$
    SELECT CASE p_action
        WHEN 'fail' THEN pg_catalog.format(
            '(j.state <> ''failed'' OR j.attempts < j.max_attempts OR j.last_error IS DISTINCT FROM %L)',
            coalesce(p_with->>'error', 'failed by an operator'))
        WHEN 'retry' THEN '(j.state = ''failed'' OR j.run_at > pg_catalog.clock_timestamp())'
        WHEN 'reschedule' THEN pg_catalog.concat('(', pg_catalog.concat_ws(' OR ',
            'j.state = ''failed''',
            'j.run_at <> ' || pg_catalog.quote_literal((p_with->>'run_at')::timestamptz),
            'j.priority <> ' || (p_with->>'priority')::smallint,
            'j.attempts <> ' || (p_with->>'attempts')::integer,
            'j.max_attempts IS DISTINCT FROM ' || (p_with->>'max_attempts')::integer), ')')
        ELSE 'true' END
$$;
