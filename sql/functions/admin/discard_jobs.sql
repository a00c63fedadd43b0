-- Removes jobs that must not run, unless they run: the history keeps them as discarded for 90 days.
-- Returns the jobs that it removed, perhaps fewer than you named. `audit undo` brings them back.
CREATE OR REPLACE FUNCTION discard_jobs(job_ids bigint[], reason text DEFAULT NULL, actor text DEFAULT session_user)
RETURNS SETOF jobs
LANGUAGE sql SET search_path FROM CURRENT
AS $$ SELECT * FROM change_all_v1('discard', job_ids, '{}', reason, actor) $$;
