-- Changes when and how often jobs run, unless they run now. Null leaves a value as it is.
-- A failed job is queued again, and its crashes are forgotten. Its attempts stay, unless you give them: with its attempts used
-- up it runs once more. A paused job stays paused.
-- Returns the jobs that it changed, perhaps fewer than you named. `audit undo` takes it back.
CREATE OR REPLACE FUNCTION reschedule_jobs(
    job_ids bigint[], run_at timestamptz DEFAULT NULL, priority integer DEFAULT NULL, attempts integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL, reason text DEFAULT NULL, actor text DEFAULT session_user
) RETURNS SETOF jobs
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT * FROM change_all_v1(
        'reschedule', job_ids, jsonb_strip_nulls(jsonb_build_object(
            'run_at', run_at, 'priority', priority, 'attempts', attempts, 'max_attempts', max_attempts)), reason, actor)
$$;
