-- The row of the history for a job that leaves the state in which p_job has it: with its lease, if it had one. Its payload is
-- kept if that ends the job's life. For everybody but settle_v1, which writes the rows itself: a call would cost each job a
-- microsecond.
CREATE OR REPLACE FUNCTION ended_v1(p_job jobs, p_outcome text, p_error text, p_retention text, p_payload jsonb)
RETURNS job_history
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ROW(p_job.id, p_job.kind, p_outcome, p_job.attempts, p_job.leased_by, p_job.leased_at, clock_timestamp(), p_error,
               p_payload, CASE WHEN p_job.state = 'processing' THEN p_job.lease_token END, p_retention);
END $$;
