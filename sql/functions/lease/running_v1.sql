-- Lists the jobs that run, by the last beats of their owners: at most one for each worker.
-- A worker leases several jobs at once and runs one at a time. Its beat names the job that has run for 0.5 s or longer. So a
-- worker that is not in the list runs none of its jobs, or one that nobody can name. A job that the worker has finished, and
-- cannot settle yet, does not run.
-- It looks into the primary key once for each beat, even if the planner's statistics suggest another plan (OFFSET 0).
-- Called by leases_v1, workers_v1 and count_jobs_v1.
CREATE OR REPLACE FUNCTION running_v1() RETURNS TABLE (worker_id uuid, job_id bigint)
LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
    SELECT b.worker_id, r.id
      FROM beats b,
           LATERAL (SELECT j.id FROM jobs j
                     WHERE j.id = b.job_id AND j.state || '' = 'processing' AND j.worker_id = b.worker_id
                       AND j.id <> ALL (b.unsettled) OFFSET 0) r
     WHERE b.job_id IS NOT NULL
$$;
