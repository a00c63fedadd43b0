-- Lists the jobs of a selection (job_condition_v1) in the order of their ids, as list_jobs_v1 does. The selection can also have
-- older_than, in seconds, and after: only ids above it. Of a long queue it reads every job, unless the selection names ids or
-- few jobs match.
CREATE OR REPLACE FUNCTION find_jobs_v1(p_where jsonb, p_limit integer) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
DECLARE
    v_where jsonb := p_where - '{older_than,after}'::text[] || jsonb_strip_nulls(jsonb_build_object(
        'created_before', statement_timestamp() - make_interval(secs => (p_where->>'older_than')::double precision)));
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT %1$I.shown_job_v1(j, 4096) FROM %1$I.jobs j WHERE %2$s AND j.id > %3$L::bigint ORDER BY j.id LIMIT %4$s',
        current_schema(), job_condition_v1(NULL, '{}', v_where), coalesce(p_where->>'after', '-9223372036854775808'), p_limit);
END $$;
