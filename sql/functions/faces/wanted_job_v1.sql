-- Returns a job as an action of an operator leaves it. It writes nothing. p_action is one of:
--   complete, discard   null: the job is gone
--   fail        failed, with p_with->'error' as its error, and its attempts used up
--   reschedule  with the run_at, priority, attempts and max_attempts of p_with, each unless null; a failed job is queued
--   retry       queued and due now; a failed job starts again with its first attempt
--   release     queued and due now; its attempt is given back
-- A failed job that is queued again forgets its crashes. Called by change_slice_v1 and change_some_v1.
CREATE OR REPLACE FUNCTION wanted_job_v1(p_job jobs, p_action text, p_with jsonb) RETURNS jobs
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_failed boolean := p_job.state = 'failed';
BEGIN
    CASE p_action
    WHEN 'complete', 'discard' THEN
        RETURN NULL;
    WHEN 'fail' THEN
        p_job.state := 'failed';
        p_job.last_error := coalesce(p_with->>'error', 'failed by an operator');
        p_job.attempts := greatest(p_job.attempts, p_job.max_attempts);
        RETURN p_job;
    WHEN 'reschedule' THEN
        p_job.run_at := coalesce((p_with->>'run_at')::timestamptz, p_job.run_at);
        p_job.priority := coalesce((p_with->>'priority')::smallint, p_job.priority);
        p_job.attempts := coalesce((p_with->>'attempts')::integer, p_job.attempts);
        p_job.max_attempts := coalesce((p_with->>'max_attempts')::integer, p_job.max_attempts);
    WHEN 'retry' THEN
        p_job.run_at := least(p_job.run_at, clock_timestamp());
        p_job.attempts := CASE WHEN v_failed THEN 0 ELSE p_job.attempts END;
    WHEN 'release' THEN
        p_job.run_at := least(p_job.run_at, clock_timestamp());
        p_job.attempts := greatest(p_job.attempts, 1) - 1;
    END CASE;
    IF v_failed OR p_action = 'release' THEN
        p_job.state := 'queued';
    END IF;
    IF v_failed THEN
        p_job.crashes := 0;
        p_job.alone := false;
    END IF;
    RETURN p_job;
END $$;
