-- Queues failed jobs anew, with their first attempt, and makes jobs due that wait for a later time.
-- A running or paused job is left alone. Returns the jobs that it changed. `audit undo` takes it back.
CREATE OR REPLACE FUNCTION retry_jobs(job_ids bigint[], reason text DEFAULT NULL, actor text DEFAULT session_user)
RETURNS SETOF jobs
LANGUAGE sql SET search_path FROM CURRENT
AS $$ SELECT * FROM change_all_v1('retry', job_ids, '{}', reason, actor) $$;
