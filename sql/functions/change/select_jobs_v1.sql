-- Finds the jobs that an action would change and that a selection means, and changes nothing. Returns one row:
--   ids        of these jobs, ascending; at most p_limit, the lowest
--   examples   the first three jobs (shown_job_v1, with at most 200 bytes of the payload)
--   selection  p_where as change_jobs_v1 takes it: older_than (in seconds) has become created_before, a fixed time
--   statement  the SELECT that found them
--   left_alone how many more jobs the selection means, by the reason why the action leaves them alone: their state, or
--              unchanged (they are already so)
-- p_action, p_with and p_where are those of job_condition_v1. p_where can have older_than, too.
CREATE OR REPLACE FUNCTION select_jobs_v1(
    p_action text, p_with jsonb, p_where jsonb, p_limit bigint DEFAULT NULL,
    OUT ids bigint[], OUT examples jsonb, OUT selection jsonb, OUT statement text, OUT left_alone jsonb
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
DECLARE
    v_applies text;
    v_differs text := 'true';
BEGIN
    selection := p_where - 'older_than' || jsonb_strip_nulls(jsonb_build_object(
        'created_before', statement_timestamp() - make_interval(secs => (p_where->>'older_than')::double precision)));
    v_applies := job_condition_v1(p_action, p_with, selection);
    IF p_action IN ('fail', 'reschedule', 'retry') THEN
        PERFORM wanted_job_v1(NULL, p_action, p_with);  -- raises an error if p_with cannot be meant
        v_differs := format('%I.wanted_job_v1(j, %L, %L) IS DISTINCT FROM j', current_schema(), p_action, p_with);
    END IF;
    statement := format('SELECT j.id FROM %I.jobs j WHERE %s%s ORDER BY j.id%s', current_schema(), v_applies,
                        ' AND ' || nullif(v_differs, 'true'), ' LIMIT ' || p_limit);
    EXECUTE format('SELECT coalesce(array_agg(f.id), ''{}'') FROM (%s) f', statement) INTO ids;
    examples := (SELECT coalesce(jsonb_agg(shown_job_v1(j, 200) ORDER BY j.id), '[]') FROM jobs j WHERE j.id = ANY (ids[:3]));
    EXECUTE format(
        'SELECT coalesce(jsonb_object_agg(w.why, w.jobs), ''{}'') FROM'
        ' (SELECT CASE WHEN %2$s THEN ''unchanged'' ELSE j.state END AS why, count(*) AS jobs'
        ' FROM %1$I.jobs j WHERE %3$s AND NOT (%2$s AND %4$s) GROUP BY 1) w',
        current_schema(), v_applies, job_condition_v1(NULL, '{}', selection), v_differs) INTO left_alone;
END $$;
