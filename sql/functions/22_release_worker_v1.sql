-- Returns what a dead worker held, and takes its row away. The caller must know that the process is dead: systemd
-- said so (release-dead, by invocation id), or its pid is gone (a worker that starts on the same host).
CREATE OR REPLACE FUNCTION release_worker_v1(p_worker uuid, p_error text)
RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
BEGIN
    SELECT array_agg(l.id) INTO v_ids
      FROM (SELECT j.id FROM jobs j WHERE j.state = 'processing' AND j.worker_id = p_worker FOR UPDATE) l;
    RETURN QUERY SELECT * FROM return_crashed_v1(v_ids, p_error);
    DELETE FROM holds WHERE scope = 'worker' AND target = p_worker::text;
    DELETE FROM workers w WHERE w.id = p_worker;
    PERFORM wake_v1();
END $$;
