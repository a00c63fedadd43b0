-- Puts running jobs back into the queue: the forced re-lease of the runbook. Their attempts are given back.
-- The former owner is fenced off. A job whose worker beats is left alone, unless you accept that it may run a second time beside
-- that worker. Returns the jobs that it released. You cannot undo it.
CREATE OR REPLACE FUNCTION release_jobs(
    job_ids bigint[], accept_second_run boolean DEFAULT false, reason text DEFAULT NULL, actor text DEFAULT session_user
) RETURNS SETOF jobs
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT * FROM change_all_v1(
        'release', job_ids, jsonb_build_object('accept_second_run', accept_second_run), reason, actor)
$$;
