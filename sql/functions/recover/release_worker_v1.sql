-- Takes back the leases of a dead worker, and removes its row.
-- p_error says how it died. The caller must know that the process is dead. Either systemd said so (release-dead, by
-- invocation id), or its pid is gone (a worker that starts on the same host).
-- Returns the jobs, with what became of each (return_crashed_v1).
-- It waits at most one second for a job that somebody has locked, and then leaves that job to the expiry of its lease. It
-- also leaves a job that the database refuses to return. While there is such a job, the worker's row stays: it tells whose
-- the job is.
CREATE OR REPLACE FUNCTION release_worker_v1(p_worker uuid, p_error text)
RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
BEGIN
    BEGIN
        SELECT array_agg(l.id) INTO v_ids
          FROM (SELECT j.id FROM jobs j WHERE j.state = 'processing' AND j.worker_id = p_worker FOR UPDATE) l;
    EXCEPTION WHEN lock_not_available THEN
        SELECT array_agg(l.id) INTO v_ids
          FROM (SELECT j.id FROM jobs j WHERE j.state = 'processing' AND j.worker_id = p_worker FOR UPDATE SKIP LOCKED) l;
        RAISE WARNING 'somebody has locked a job of the dead worker %: it returns when its lease expires', p_worker;
    END;
    IF v_ids IS NOT NULL THEN
        RETURN QUERY SELECT * FROM return_dead_v1(v_ids, p_error);
        PERFORM wake_v1();
    END IF;
    PERFORM remove_workers_v1(ARRAY[p_worker]);
END $$;
