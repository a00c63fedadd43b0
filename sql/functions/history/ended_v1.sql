-- Builds the history row for a job that leaves the state shown in p_job.
-- p_job is the row as it was before the change. Its lease token goes into the history only if it was processing.
-- p_payload is the payload if the job's life ends here, else null. p_retention is the retention class.
-- This function writes nothing: pass its result to record_v1. Only settle_v1 writes its rows without it, because this call
-- would cost each job a microsecond.
CREATE OR REPLACE FUNCTION ended_v1(p_job jobs, p_outcome text, p_error text, p_retention text, p_payload jsonb)
RETURNS job_history
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ROW(p_job.id, p_job.kind, p_outcome, p_job.attempts, p_job.leased_by, p_job.leased_at, clock_timestamp(), p_error,
               p_payload, CASE WHEN p_job.state = 'processing' THEN p_job.lease_token END, p_retention);
END $$;
