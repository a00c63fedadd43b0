-- Makes jobs failed, unless they run. error_message becomes their last error, and their attempts are used up.
-- Returns the jobs that it changed, perhaps fewer than you named. `audit undo` takes it back.
CREATE OR REPLACE FUNCTION permanently_fail_jobs(
    job_ids bigint[], error_message text, reason text DEFAULT NULL, actor text DEFAULT session_user
) RETURNS SETOF jobs
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT * FROM change_all_v1('fail', job_ids, jsonb_build_object('error', error_message), reason, actor)
$$;
