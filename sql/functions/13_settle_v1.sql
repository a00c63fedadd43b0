-- Ends a lease. Fenced: id, token and 'processing' must match, else nothing is written and the answer is false.
--   ok               processing → gone
--   retry            processing → queued, p_delay seconds from now
--   failed, poison   processing → failed
--   released         processing → queued as it was; the attempt is given back
-- The row of the history goes with it, unless the kind keeps none. Commits synchronously, whatever the session says:
-- what was settled must survive a crash of the database. Called by the main thread, by job.transaction() on the
-- handler's own connection, and by the control thread when it ends the process.
CREATE OR REPLACE FUNCTION settle_v1(
    p_id bigint, p_token uuid, p_outcome text, p_delay double precision, p_error text, p_retention text
) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    v_job jobs;
BEGIN
    IF p_outcome NOT IN ('ok', 'retry', 'failed', 'poison', 'released') THEN
        RAISE EXCEPTION 'a worker can''t settle a job as %', p_outcome;
    END IF;
    SET LOCAL synchronous_commit = on;
    SELECT * INTO v_job FROM jobs WHERE id = p_id AND lease_token = p_token AND state = 'processing' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    IF p_outcome = 'ok' THEN
        DELETE FROM jobs WHERE id = p_id;
    ELSE
        UPDATE jobs
           SET state = CASE WHEN p_outcome IN ('failed', 'poison') THEN 'failed' ELSE 'queued' END,
               run_at = CASE WHEN p_outcome = 'retry' THEN clock_timestamp() + make_interval(secs => p_delay)
                             ELSE run_at END,
               attempts = CASE WHEN p_outcome = 'released' THEN greatest(attempts, 1) - 1 ELSE attempts END,
               last_error = coalesce(p_error, last_error),
               leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
         WHERE id = p_id;
    END IF;
    IF p_retention <> 'none' THEN
        INSERT INTO job_history (id, kind, outcome, attempts, leased_by, leased_at, finished_at, error, payload,
                                 lease_token, retention)
        VALUES (v_job.id, v_job.kind, p_outcome, v_job.attempts, v_job.leased_by, v_job.leased_at, clock_timestamp(),
                p_error, CASE WHEN p_outcome = 'ok' THEN v_job.payload END, p_token, p_retention);
    END IF;
    RETURN true;
END $$;
