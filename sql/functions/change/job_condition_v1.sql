-- Returns a condition on the row j of jobs, as SQL: the jobs to which an action applies, and which a selection means.
-- p_action:
--   complete, fail, reschedule, discard  not running
--   retry                                failed or queued
--   release                              running, and its worker does not live; with p_with->'accept_second_run', any running
--   null                                 any job
-- p_where has any of these members, and no others. The empty object means every job:
--   ids             a list of ids
--   kind            the name of a kind
--   state           one of the four states; with the action null, also one of three words:
--                     ready      queued, due and not held
--                     scheduled  queued and not due yet
--                     held       paused; or queued, while its kind or the fleet is held
--                   Time and holds change what these three mean, and the job stays as it is. So no change and no plan can be
--                   bound to them.
--   error           how last_error begins
--   created_before  a time
--   payload         a JSON object that the payload contains
-- A member that is null is refused: it would mean every job. p_with has the members of wanted_job_v1.
-- Raises an error for any other action, member or state. A preview shows the condition, and change_jobs_v1 runs it.
CREATE OR REPLACE FUNCTION job_condition_v1(p_action text, p_with jsonb, p_where jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO'
AS $$
DECLARE
    v_strange text := (SELECT min(k) FROM pg_catalog.jsonb_object_keys(p_where) k
                        WHERE k <> ALL ('{ids,kind,state,error,created_before,payload}'::text[]));
    v_with    text := (
        SELECT min(k) FROM pg_catalog.jsonb_object_keys(p_with) k
         WHERE k <> ALL (CASE p_action WHEN 'fail' THEN '{error}' WHEN 'release' THEN '{accept_second_run}'
                         WHEN 'reschedule' THEN '{run_at,priority,attempts,max_attempts}' ELSE '{}' END::text[]));
    v_held    text := pg_catalog.format(
        '(j.kind IN (SELECT h.target FROM %1$I.standing_holds h WHERE h.scope = ''kind'')'
        ' OR EXISTS (SELECT FROM %1$I.standing_holds h WHERE h.scope = ''fleet''))', :'schema');
    v_null    text := (SELECT min(e.key) FROM pg_catalog.jsonb_each(p_where) e WHERE e.value = 'null');
BEGIN
    IF p_action <> ALL ('{complete,fail,reschedule,discard,retry,release}'::text[]) THEN
        RAISE EXCEPTION 'there is no action %', p_action USING ERRCODE = 'invalid_parameter_value';
    ELSIF v_strange IS NOT NULL THEN
        RAISE EXCEPTION 'a selection has no member %', v_strange USING ERRCODE = 'invalid_parameter_value';
    ELSIF v_null IS NOT NULL THEN
        RAISE EXCEPTION 'the member % of a selection is null', v_null USING ERRCODE = 'invalid_parameter_value';
    ELSIF v_with IS NOT NULL THEN
        RAISE EXCEPTION 'the action % takes no %', p_action, v_with USING ERRCODE = 'invalid_parameter_value';
    ELSIF p_where->>'state' <> ALL ('{queued,processing,paused,failed}'::text[]) AND (
        p_action IS NOT NULL OR p_where->>'state' <> ALL ('{ready,scheduled,held}'::text[])) THEN
        RAISE EXCEPTION 'there is no state %', p_where->>'state' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN pg_catalog.concat_ws(' AND ',
        CASE WHEN p_action IS NULL THEN 'true'
             WHEN p_action = 'retry' THEN 'j.state IN (''failed'', ''queued'')'
             WHEN p_action <> 'release' THEN 'j.state <> ''processing'''
             WHEN p_with @> '{"accept_second_run": true}' THEN 'j.state = ''processing'''
             ELSE pg_catalog.format('j.state = ''processing'' AND NOT EXISTS (SELECT FROM %1$I.beats b'
                 ' WHERE b.worker_id = j.worker_id AND %1$I.lives_v1(b.beat_at))', :'schema') END,
        'j.id = ANY (' || pg_catalog.quote_literal(pg_catalog.translate(p_where->>'ids', '[] ', '{}')::bigint[]) || '::bigint[])',
        'j.kind = ' || pg_catalog.quote_literal(p_where->>'kind'),
        CASE p_where->>'state'
            WHEN 'ready' THEN 'j.state = ''queued'' AND j.run_at <= pg_catalog.statement_timestamp() AND NOT ' || v_held
            WHEN 'scheduled' THEN 'j.state = ''queued'' AND j.run_at > pg_catalog.statement_timestamp()'
            WHEN 'held' THEN '(j.state = ''paused'' OR j.state = ''queued'' AND ' || v_held || ')'
            ELSE 'j.state = ' || pg_catalog.quote_literal(p_where->>'state') END,
        'pg_catalog.starts_with(j.last_error, ' || pg_catalog.quote_literal(p_where->>'error') || ')',
        'j.created_at < ' || pg_catalog.quote_literal((p_where->>'created_before')::timestamptz),
        'j.payload @> ' || pg_catalog.quote_literal(p_where->'payload') || '::jsonb');
END $$;
