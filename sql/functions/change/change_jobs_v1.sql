-- Does one action to jobs, and records it, in the caller's transaction.
--   p_action  complete, fail, reschedule, discard, retry or release (job_condition_v1, wanted_job_v1)
--   p_ids     the jobs; give at most 5,000 at once. An id that comes twice counts once, and null is no job
--   p_with    what the action needs (wanted_job_v1)
--   p_where   a selection (job_condition_v1): a job that is not of it, or no longer, is left alone
--   p_faces   null, or for each id the only face (job_face_v1) that the job may have
--   p_reason, p_actor   for the audit row
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
    p_reason text DEFAULT NULL, p_actor text DEFAULT session_user, p_audit bigint DEFAULT NULL,
    OUT changed jobs[], OUT refused jsonb, OUT audit_id bigint, OUT rest bigint[]
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM :"schema".change_some_v1(p_action, p_ids, p_with, p_where, p_faces, p_reason, p_actor, p_audit, '{}')
$$;
