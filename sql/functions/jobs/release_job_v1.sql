-- Puts a running job back into the queue at the word of an operator: the forced re-lease of the runbook.
-- The old owner is fenced off, and the attempt is given back. While the owner beats, the release is refused, unless p_force
-- is true. p_reason and p_actor go into the audit row. Returns what happened:
--   released
--   alive: <host>:<pid> beat <seconds> s ago
--   not processing: <state>
--   not released: a trigger left the job as it was  (a trigger of the application returned NULL or the old row; nothing
--                                                    was written)
--   no such job
--
-- It runs with the rights of the owner, so that an operator can release no job without an audit row.
CREATE OR REPLACE FUNCTION release_job_v1(
    p_id bigint, p_force boolean DEFAULT false, p_reason text DEFAULT NULL, p_actor text DEFAULT session_user
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_job   :"schema".jobs;
    v_beat  double precision;
    v_state text;
BEGIN
    SELECT * INTO v_job FROM :"schema".jobs WHERE id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'no such job';
    ELSIF v_job.state <> 'processing' THEN
        RETURN 'not processing: ' || v_job.state;
    END IF;
    SELECT :"schema".seconds_since_v1(beat_at) INTO v_beat FROM :"schema".beats WHERE worker_id = v_job.worker_id AND :"schema".lives_v1(beat_at);
    IF FOUND AND NOT p_force THEN
        RETURN pg_catalog.format('alive: %s beat %s s ago', v_job.leased_by, round(v_beat::numeric, 1));
    END IF;
    -- flip_v1 would only warn if the database refuses the change. An operator must get the error.
    UPDATE :"schema".jobs
       SET state = 'queued', attempts = greatest(attempts, 1) - 1, run_at = least(run_at, clock_timestamp()),
           leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
     WHERE id = p_id
    RETURNING state INTO v_state;
    IF NOT FOUND OR v_state = 'processing' THEN
        RETURN 'not released: a trigger left the job as it was';
    END IF;
    PERFORM :"schema".record_v1(ARRAY[:"schema".ended_v1(
        v_job, 'released', pg_catalog.concat_ws(': ', pg_catalog.concat('released by ', p_actor), p_reason), '7d', NULL)]);
    INSERT INTO :"schema".audit (actor, action, target, reason, job_ids, detail)
    VALUES (p_actor, 'release', pg_catalog.concat('job ', p_id), p_reason, ARRAY[p_id],
            pg_catalog.jsonb_build_object('leased_by', v_job.leased_by, 'leased_at', v_job.leased_at, 'forced', v_beat IS NOT NULL));
    PERFORM :"schema".wake_v1();
    RETURN 'released';
END $$;
