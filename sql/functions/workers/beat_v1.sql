-- Records a worker's sign of life, and returns the drains that cover the worker as a JSON array.
-- p_state is what it does. p_job and p_kind are the job that it runs, p_running is for how many seconds. p_unsettled are the
-- jobs that it has finished and cannot settle yet. Two results are not an array:
--   null   its row is gone, and it must register again
--   false  a lock on holds or workers keeps it from looking at the holds. The beat is recorded all the same: others must see
--          that the worker lives.
-- It commits synchronously: the worker goes on because of it, so others must know of it, also after a crash of the database.
-- Called by the control thread.
CREATE OR REPLACE FUNCTION beat_v1(
    p_worker uuid, p_state text, p_job bigint, p_kind text, p_running double precision, p_unsettled bigint[] DEFAULT '{}'
) RETURNS jsonb
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    SET LOCAL synchronous_commit = on;
    UPDATE beats
       SET beat_at = clock_timestamp(), state = p_state, job_id = p_job, job_kind = p_kind,
           job_since = clock_timestamp() - make_interval(secs => p_running), unsettled = p_unsettled
     WHERE worker_id = p_worker;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    BEGIN
        RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object(
                           'scope', scope, 'target', target, 'reason', reason, 'actor', actor)), '[]')
                  FROM covering_holds_v1(p_worker));
    EXCEPTION WHEN lock_not_available THEN
        RETURN 'false';
    END;
END $$;
