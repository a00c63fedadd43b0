-- Returns what a dead worker held, and takes its row away. The caller must know that the process is dead: systemd
-- said so (release-dead, by invocation id), or its pid is gone (a worker that starts on the same host). A job that somebody else
-- has locked is waited for, but no longer than a second: then it is left to its expiry, and so is one that the database refuses
-- to return. As long as there is one, the row stays, by which others know whose it is.
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
