-- Does one action to jobs, and records it, in the caller's transaction.
--   p_action  complete, fail, reschedule, discard, retry or release (job_condition_v1, wanted_job_v1)
--   p_ids     the jobs; give at most 5,000 at once
--   p_with    what the action needs (wanted_job_v1)
--   p_where   a selection (job_condition_v1): a job that is not of it, or no longer, is left alone
--   p_faces   null, or for each id the only face (job_face_v1) that the job may have
--   p_reason, p_actor, p_detail   for the audit row
--   p_audit   the audit row, if the command has changed jobs in an earlier transaction
-- A job that the database refuses to change (a trigger or a constraint of the application) keeps no other from being changed.
-- Returns one row:
--   changed   the jobs that were changed: as they are now, or as they were if they are gone
--   refused   why each other job was not changed, by its id:
--               no such job
--               unchanged                      it was already so
--               queued, processing, paused, failed   the action does not apply to a job in this state
--               alive: <host>:<pid> beat <seconds> s ago
--               changed                        it is not as the selection or the face says
--               locked                         another session has locked it
--               trigger                        a trigger of the application left the job as it was
--               database: <error>              the database refused the change
--   audit_id  the audit row; null if nothing was changed, also not earlier
--
-- It runs with the rights of the owner, so that an operator can change no job without an audit row.
CREATE OR REPLACE FUNCTION change_jobs_v1(
    p_action text, p_ids bigint[], p_with jsonb DEFAULT '{}', p_where jsonb DEFAULT '{}', p_faces jsonb[] DEFAULT NULL,
    p_reason text DEFAULT NULL, p_actor text DEFAULT session_user, p_audit bigint DEFAULT NULL, p_detail jsonb DEFAULT '{}',
    OUT changed jobs[], OUT refused jsonb, OUT audit_id bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    v_condition text := :"schema".job_condition_v1(p_action, p_with, p_where);
    v_count     integer := pg_catalog.cardinality(p_ids);
    v_did       record;
    v_half      record;
    v_whole     boolean := true;
BEGIN
    IF p_action NOT IN ('complete', 'discard') THEN
        PERFORM :"schema".wanted_job_v1(NULL, p_action, p_with);  -- raises an error if p_with cannot be meant
    END IF;
    audit_id := p_audit;
    changed := '{}';
    BEGIN
        SELECT * INTO v_did
          FROM :"schema".change_slice_v1(p_action, p_ids, p_with, v_condition, p_faces, p_reason, p_actor);
        IF v_did.changed IS NOT NULL THEN
            changed := v_did.changed;
            audit_id := :"schema".record_change_v1(
                p_audit, p_action, p_detail || pg_catalog.jsonb_build_object('with', p_with, 'where', p_where), p_reason, p_actor,
                ARRAY(SELECT c.id FROM pg_catalog.unnest(changed) c), v_did.before, v_did.after, v_did.payloads);
            IF p_action IN ('reschedule', 'retry', 'release') THEN
                PERFORM :"schema".wake_v1();
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        -- Want of memory or disk, a deadlock and a wait that is over are about no single job.
        IF SQLSTATE LIKE '53%' OR SQLSTATE LIKE '40%' OR SQLSTATE = '55P03' THEN
            RAISE;
        ELSIF v_count = 1 THEN
            refused := pg_catalog.jsonb_build_object(p_ids[1]::text, 'database: ' || SQLERRM);
            RETURN;
        END IF;
        v_whole := false;
    END;
    IF NOT v_whole THEN  -- nothing was changed: look for the job that is refused
        SELECT * INTO v_half FROM :"schema".change_jobs_v1(
            p_action, p_ids[:v_count / 2], p_with, p_where, p_faces[:v_count / 2], p_reason, p_actor, p_audit, p_detail);
        SELECT v_half.changed || h.changed, v_half.refused || h.refused, h.audit_id INTO changed, refused, audit_id
          FROM :"schema".change_jobs_v1(
            p_action, p_ids[v_count / 2 + 1:], p_with, p_where, p_faces[v_count / 2 + 1:], p_reason, p_actor, v_half.audit_id,
            p_detail) h;
        RETURN;
    END IF;
    refused := :"schema".why_unchanged_v1(p_action, p_ids, p_with, v_condition, p_faces, v_did.tried,
                                          ARRAY(SELECT c.id FROM pg_catalog.unnest(changed) c));
END $$;
