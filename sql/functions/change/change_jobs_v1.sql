-- Does one action to jobs, and records it, in the caller's transaction.
--   p_action  complete, fail, reschedule, discard, retry or release (job_condition_v1, wanted_job_v1)
--   p_ids     the jobs; give at most 5,000 at once. An id that comes twice counts once, and null is no job
--   p_with    what the action needs (wanted_job_v1)
--   p_where   a selection (job_condition_v1): a job that is not of it, or no longer, is left alone
--   p_faces   null, or for each id the only face (job_face_v1) that the job may have
--   p_reason, p_actor, p_detail   for the audit row
--   p_audit   the audit row, if the command has changed jobs in an earlier transaction
-- A job that the database refuses to change (a trigger or a constraint of the application) keeps no other from being changed.
-- Returns one row:
--   changed   the jobs that were changed: as they are now, without their payloads; or as they were if they are gone
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
--   rest      the ids that it has not tried: call again with these. So one call holds its locks for about 0.25 s, and at most 8 MB
--             of jobs in memory (batch_end_v1)
--
-- It runs with the rights of the owner, so that an operator can change no job without an audit row.
CREATE OR REPLACE FUNCTION change_jobs_v1(
    p_action text, p_ids bigint[], p_with jsonb DEFAULT '{}', p_where jsonb DEFAULT '{}', p_faces jsonb[] DEFAULT NULL,
    p_reason text DEFAULT NULL, p_actor text DEFAULT session_user, p_audit bigint DEFAULT NULL, p_detail jsonb DEFAULT '{}',
    OUT changed jobs[], OUT refused jsonb, OUT audit_id bigint, OUT rest bigint[]
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    v_condition text := :"schema".job_condition_v1(coalesce(p_action, ''), p_with, p_where);
    v_ids       bigint[];
    v_faces     jsonb[];
    v_until     timestamptz := pg_catalog.clock_timestamp() + '0.25 s'::interval;
    v_end       integer;
    v_first     integer := 1;  -- the next ids to try: v_first to v_last
    v_last      integer;
    v_size      integer;
    v_did       record;
    v_tried     bigint[] := '{}';
    v_before    jsonb[] := '{}';
    v_after     jsonb[] := '{}';
    v_payloads  jsonb[] := '{}';
BEGIN
    PERFORM :"schema".wanted_job_v1(NULL, p_action, p_with);  -- raises an error if p_with cannot be meant
    IF cardinality(p_faces) <> cardinality(p_ids) THEN
        RAISE EXCEPTION 'there are % faces for % ids', cardinality(p_faces), cardinality(p_ids)
              USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT coalesce(array_agg(j.id ORDER BY j.id), '{}'), array_agg(j.face ORDER BY j.id) INTO v_ids, v_faces
      FROM (SELECT DISTINCT ON (w.id) w.id, w.face FROM ROWS FROM (unnest(p_ids), unnest(p_faces)) w (id, face)
             WHERE w.id IS NOT NULL) j;
    changed := '{}';
    refused := '{}';
    v_end := :"schema".batch_end_v1(v_ids, pg_column_size(p_with), p_action IN ('complete', 'discard'));
    v_size := 250;
    WHILE v_first <= v_end AND (v_first = 1 OR clock_timestamp() < v_until) LOOP
        v_last := least(v_first + v_size - 1, v_end);
        BEGIN
            SELECT * INTO v_did FROM :"schema".change_slice_v1(
                p_action, v_ids[v_first:v_last], p_with, v_condition, v_faces[v_first:v_last], p_reason, p_actor,
                cardinality(v_ids) = 1);
        EXCEPTION WHEN OTHERS THEN
            -- About no single job: a lost connection, a read-only server, a deadlock, a wait that is over, want of memory or
            -- disk, a shutdown, damage.
            IF left(SQLSTATE, 2) IN ('08', '25', '40', '53', '55', '57', '58', 'XX') THEN
                RAISE;
            ELSIF v_first = v_last THEN
                refused := refused || jsonb_build_object(v_ids[v_first]::text, 'database: ' || SQLERRM);
                v_first := v_first + 1;
            END IF;
            v_size := greatest((v_last - v_first) / 2, 1);
            CONTINUE;
        END;
        v_tried := v_tried || v_did.tried;
        changed := changed || v_did.changed;
        v_before := v_before || v_did.before;
        v_after := v_after || v_did.after;
        v_payloads := v_payloads || v_did.payloads;
        v_first := v_last + 1;
        v_size := 2 * v_size;
    END LOOP;
    rest := v_ids[v_first:];
    v_ids := v_ids[:v_first - 1];
    audit_id := p_audit;
    IF cardinality(changed) > 0 THEN
        audit_id := :"schema".record_change_v1(
            p_audit, p_action, coalesce(p_detail, '{}') || jsonb_build_object('with', p_with, 'where', p_where), p_reason,
            coalesce(p_actor, session_user), ARRAY(SELECT c.id FROM unnest(changed) c), v_before, v_after, v_payloads);
        IF p_action IN ('reschedule', 'retry', 'release') THEN
            PERFORM :"schema".wake_v1();
        END IF;
    END IF;
    refused := :"schema".why_unchanged_v1(p_action, v_ids, p_with, v_condition, v_faces, v_tried,
                                          ARRAY(SELECT c.id FROM unnest(changed) c)) || refused;
END $$;
