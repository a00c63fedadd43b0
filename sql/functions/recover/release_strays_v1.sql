-- processing → queued for the leases that a worker doesn't know of: those of these tokens, whose answers never reached it,
-- however late they committed, but for those that somebody has locked. Nothing of them was started; the attempts are given
-- back. One that the database refuses to release is left to its expiry. Called by sweep_v1 for the worker that sweeps, by the
-- control thread for a lease that was sent ahead while a handler turned slow, and by unregister_v1.
CREATE OR REPLACE FUNCTION release_strays_v1(p_worker uuid, p_tokens uuid[])
RETURNS TABLE (id bigint, kind text)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
    v_id  bigint;
BEGIN
    SELECT array_agg(l.id) INTO v_ids
      FROM (SELECT j.id FROM jobs j
             WHERE j.state = 'processing' AND j.worker_id = p_worker AND j.lease_token = ANY (p_tokens)
               FOR UPDATE SKIP LOCKED) l;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;
    v_ids := flip_v1(v_ids, 'queued');
    RETURN QUERY SELECT j.id, j.kind FROM jobs j WHERE j.id = ANY (v_ids);
    PERFORM wake_v1();
END $$;
