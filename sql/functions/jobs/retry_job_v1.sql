-- Queues a failed job anew, or makes a job that is queued for later due now.
-- The attempts and crashes of a failed job are set to 0. A running or paused job is left alone. p_reason and p_actor go
-- into the audit row. Returns what happened:
--   retried
--   not retried: <state>
--   not retried: a trigger left the job as it was  (a trigger of the application returned NULL or the old row; nothing
--                                                   was written)
--   no such job
--
-- It runs with the rights of the owner, so that an operator can retry no job without an audit row.
CREATE OR REPLACE FUNCTION retry_job_v1(p_id bigint, p_reason text DEFAULT NULL, p_actor text DEFAULT session_user)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_job    :"schema".jobs;
    v_state  text;
    v_run_at timestamptz;
BEGIN
    SELECT * INTO v_job FROM :"schema".jobs WHERE id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'no such job';
    ELSIF v_job.state NOT IN ('failed', 'queued') THEN
        RETURN 'not retried: ' || v_job.state;
    END IF;
    UPDATE :"schema".jobs
       SET state = 'queued', run_at = least(run_at, clock_timestamp()),
           attempts = CASE WHEN v_job.state = 'failed' THEN 0 ELSE attempts END,
           crashes = CASE WHEN v_job.state = 'failed' THEN 0 ELSE crashes END,
           alone = alone AND v_job.state <> 'failed'
     WHERE id = p_id
    RETURNING state, run_at INTO v_state, v_run_at;
    IF NOT FOUND OR v_state = 'failed' OR v_run_at = v_job.run_at AND v_run_at > clock_timestamp() THEN
        RETURN 'not retried: a trigger left the job as it was';
    END IF;
    INSERT INTO :"schema".audit (actor, action, target, reason, job_ids, detail)
    VALUES (p_actor, 'retry', pg_catalog.concat('job ', p_id), p_reason, ARRAY[p_id],
            pg_catalog.jsonb_build_object('state', v_job.state, 'attempts', v_job.attempts, 'crashes', v_job.crashes,
                               'run_at', v_job.run_at, 'last_error', left(v_job.last_error, 1000)));
    PERFORM :"schema".wake_v1();
    RETURN 'retried';
END $$;
