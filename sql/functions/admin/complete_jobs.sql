-- Ends jobs as if they were done, unless they run: their rows go, and the history keeps them as completed for 90 days.
-- Failed and paused jobs, too. Returns the jobs that it ended, perhaps fewer than you named. `audit undo` brings them back.
CREATE OR REPLACE FUNCTION complete_jobs(job_ids bigint[], reason text DEFAULT NULL, actor text DEFAULT session_user)
RETURNS SETOF jobs
LANGUAGE sql SET search_path FROM CURRENT
AS $$ SELECT * FROM change_all_v1('complete', job_ids, '{}', reason, actor) $$;
