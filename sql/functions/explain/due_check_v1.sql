-- Explains the time of a job as one check of explain_job_v1. A lease takes due jobs only. Beside check, ok and since:
--   run_at, seconds  from when it may run, and in how many seconds that is (null: never, or always)
--   why              of a job that is not due: retry, released or crashed, if its last run ended so; else scheduled
--   error            of such a run
-- since says when somebody decided on this time: the end of its last run, or the enqueue.
CREATE OR REPLACE FUNCTION due_check_v1(p_job jobs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
DECLARE
    v_check jsonb := jsonb_build_object('check', 'run_at', 'ok', p_job.run_at <= clock_timestamp(), 'since', NULL,
                                        'run_at', readable_v1(p_job.run_at), 'seconds', -seconds_since_v1(p_job.run_at));
BEGIN
    IF (v_check->>'ok')::boolean THEN
        RETURN v_check;
    END IF;
    RETURN v_check || (
        SELECT jsonb_build_object('since', coalesce(e.finished_at, readable_v1(p_job.created_at)),
                                  'why', coalesce(e.outcome, CASE WHEN p_job.attempts > 0 THEN 'retry' ELSE 'scheduled' END),
                                  'error', CASE WHEN e.outcome IS NOT NULL OR p_job.attempts > 0
                                                THEN last_error_v1(p_job.id) END)
          FROM (SELECT) o LEFT JOIN last_end_v1(p_job.id) e ON e.outcome IN ('retry', 'released', 'crashed'));
END $$;
