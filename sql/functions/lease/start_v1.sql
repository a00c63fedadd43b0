-- Looks at the holds once more for leased jobs that could not start in time, and returns the ids of those that may start now.
-- Each of these has a fresh lease of p_seconds under p_new_token. So nobody can give it back by the old token any more. The
-- other jobs are held or lost. A job that was leased before the ramp of its kind began is held, because no ramp counts it.
-- Raises an error outside of READ COMMITTED. Locks: the gate, as lease_v1 does. It sets leased_at anew, so that
-- barrier_v1 counts from this moment. Called by the main thread. It waits for a lock for at most 0.1 s and then fails
-- (lock_timeout). A locked row must not delay the worker's other jobs. Those that have finished wait to be settled.
CREATE OR REPLACE FUNCTION start_v1(
    p_worker uuid, p_ids bigint[], p_token uuid, p_new_token uuid, p_seconds double precision[]
) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '0.1s'
AS $$
DECLARE
    v_now  timestamptz;
    v_held text[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'start_v1 needs READ COMMITTED, this transaction is %', current_setting('transaction_isolation');
    END IF;
    LOCK TABLE gate IN ROW SHARE MODE;
    IF EXISTS (SELECT FROM covering_holds_v1(p_worker)) THEN
        RETURN;
    END IF;
    v_held := held_kinds_v1();
    v_now := clock_timestamp();
    RETURN QUERY
    UPDATE jobs j
       SET leased_at = v_now, lease_expires_at = v_now + make_interval(secs => s.seconds), lease_token = p_new_token
      FROM unnest(p_ids, p_seconds) s (id, seconds)
     WHERE j.id = s.id AND j.lease_token = p_token AND j.state || '' = 'processing'  -- as in settle_v1
       AND j.kind <> ALL (v_held)
       AND NOT EXISTS (SELECT FROM ramps r WHERE r.kind = j.kind AND j.leased_at < r.began)
    RETURNING j.id;
END $$;
