-- Explains the time of a job as one check of explain_job_v1. A lease takes due jobs only. Beside check, ok and since:
--   run_at, seconds  from when it may run, and in how many seconds that is (null: never, or always)
--   why              of a job that is not due: how its last run ended (an outcome of the history); else scheduled
-- since says when it was put off: the end of its last run, or the enqueue. Null if the history does not tell the end.
CREATE OR REPLACE FUNCTION due_check_v1(p_job jobs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
DECLARE
    v_ran   boolean := p_job.attempts > 0;
    v_check jsonb := jsonb_build_object('check', 'run_at', 'ok', p_job.run_at <= clock_timestamp(), 'since', NULL,
                                        'run_at', readable_v1(p_job.run_at), 'seconds', -seconds_since_v1(p_job.run_at));
BEGIN
    IF (v_check->>'ok')::boolean THEN
        RETURN v_check;
    END IF;
    RETURN v_check || (
        SELECT jsonb_build_object('since', coalesce(e.finished_at, CASE WHEN NOT v_ran THEN readable_v1(p_job.created_at) END),
                                  'why', coalesce(e.outcome, CASE WHEN v_ran THEN 'retry' ELSE 'scheduled' END))
          FROM (SELECT) o LEFT JOIN last_end_v1(p_job.id) e ON true);
END $$;
