-- Releases the leases that a worker does not know of: those with the tokens of lease queries whose answer it never got.
-- A lease counts even if it committed late. None of these jobs was started, so their attempts are given back. It skips jobs
-- that somebody has locked. A job that the database refuses to release keeps its lease until that expires.
-- Returns the jobs that it released.
-- Called by sweep_v1 for the worker that sweeps, and by unregister_v1. The control thread calls it for a lease that was sent
-- ahead, when the handler that runs turns out to be slow.
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
