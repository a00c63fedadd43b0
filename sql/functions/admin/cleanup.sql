-- Removes what is no longer needed, and returns the jobs that it removed. It is safe while workers run. tasks are of these:
--   DELETE_PERMAFAILED_JOBS  discards all failed jobs, as discard_jobs does. `audit undo` brings them back
--   GC_TASK_IDENTIFIERS      removes the counts of kinds that have no job and no worker (forget_kinds_v1)
--   GC_JOB_QUEUES            removes nothing: there are no named queues, so no queue can be left over
-- Each task that changes something writes an audit row.
CREATE OR REPLACE FUNCTION cleanup(tasks text[], reason text DEFAULT NULL, actor text DEFAULT session_user)
RETURNS SETOF jobs
LANGUAGE plpgsql SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_strange text := (SELECT min(coalesce(t, 'null')) FROM pg_catalog.unnest(tasks) t
                        WHERE (t = ANY ('{GC_JOB_QUEUES,GC_TASK_IDENTIFIERS,DELETE_PERMAFAILED_JOBS}'::text[])) IS NOT TRUE);
BEGIN
    IF v_strange IS NOT NULL THEN
        RAISE EXCEPTION 'there is no cleanup task %: there are GC_JOB_QUEUES, GC_TASK_IDENTIFIERS and DELETE_PERMAFAILED_JOBS',
            v_strange USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF 'DELETE_PERMAFAILED_JOBS' = ANY (tasks) THEN
        RETURN QUERY SELECT * FROM :"schema".change_all_v1(
            'discard', ARRAY(SELECT j.id FROM :"schema".jobs j WHERE j.state = 'failed'), '{}', reason, actor, '{"state": "failed"}');
    END IF;
    IF 'GC_TASK_IDENTIFIERS' = ANY (tasks) THEN
        PERFORM :"schema".forget_kinds_v1(reason, actor);
    END IF;
END $$;
