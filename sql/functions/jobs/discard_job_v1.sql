-- Removes a failed, queued or paused job, and keeps it in the history as discarded.
-- A running job is never discarded. p_reason and p_actor go into the audit row. Returns what happened:
--   discarded
--   not discarded: processing
--   not discarded: a trigger left the job as it was  (a trigger of the application returned NULL; nothing was written)
--   no such job
--
-- It runs with the rights of the owner, so that an operator can discard no job without an audit row.
CREATE OR REPLACE FUNCTION discard_job_v1(p_id bigint, p_reason text DEFAULT NULL, p_actor text DEFAULT session_user)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_job :"schema".jobs;
BEGIN
    SELECT * INTO v_job FROM :"schema".jobs WHERE id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'no such job';
    ELSIF v_job.state = 'processing' THEN
        RETURN 'not discarded: processing';
    END IF;
    DELETE FROM :"schema".jobs WHERE id = p_id;
    IF NOT FOUND THEN
        RETURN 'not discarded: a trigger left the job as it was';
    END IF;
    PERFORM :"schema".record_v1(ARRAY[:"schema".ended_v1(
        v_job, 'discarded', v_job.last_error, '90d', v_job.payload)]);
    INSERT INTO :"schema".audit (actor, action, target, reason, job_ids, detail)
    VALUES (p_actor, 'discard', pg_catalog.concat('job ', p_id), p_reason, ARRAY[p_id], pg_catalog.jsonb_build_object('state', v_job.state));
    RETURN 'discarded';
END $$;
