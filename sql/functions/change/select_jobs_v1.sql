-- Finds the jobs to which an action applies and which a selection means, and changes nothing. Returns one row:
--   ids        of these jobs, ascending; at most p_limit, the lowest
--   examples   the first three jobs (shown_job_v1, with at most 200 bytes of the payload)
--   selection  p_where as change_jobs_v1 takes it: older_than (in seconds) has become created_before, a fixed time
--   statement  the SELECT that found them
-- p_action, p_with and p_where are those of job_condition_v1. p_where can have older_than, too.
CREATE OR REPLACE FUNCTION select_jobs_v1(
    p_action text, p_with jsonb, p_where jsonb, p_limit bigint DEFAULT NULL,
    OUT ids bigint[], OUT examples jsonb, OUT selection jsonb, OUT statement text
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
BEGIN
    selection := p_where - 'older_than' || jsonb_strip_nulls(jsonb_build_object(
        'created_before', statement_timestamp() - make_interval(secs => (p_where->>'older_than')::double precision)));
    statement := format('SELECT j.id FROM %I.jobs j WHERE %s ORDER BY j.id%s', current_schema(),
                        job_condition_v1(p_action, p_with, selection), ' LIMIT ' || p_limit);
    EXECUTE format('SELECT coalesce(array_agg(f.id), ''{}'') FROM (%s) f', statement) INTO ids;
    examples := (SELECT coalesce(jsonb_agg(shown_job_v1(j, 200) ORDER BY j.id), '[]') FROM jobs j WHERE j.id = ANY (ids[:3]));
END $$;
