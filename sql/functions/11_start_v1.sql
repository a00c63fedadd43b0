-- One more look at the holds for a leased job that could not start within 500 ms of its lease query: true and a fresh
-- lease if it may still start, false if a hold covers it by now or the lease is lost. Behind the gate like the lease
-- itself, and with a new leased_at, so that barrier_v1 counts the 500 ms anew. Called by the main thread.
CREATE OR REPLACE FUNCTION start_v1(p_worker uuid, p_id bigint, p_token uuid, p_seconds double precision)
RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    v_now timestamptz;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'start_v1 needs READ COMMITTED, this transaction is %', current_setting('transaction_isolation');
    END IF;
    PERFORM pg_advisory_xact_lock_shared(7301, schema_key_v1());
    v_now := clock_timestamp();
    UPDATE jobs SET leased_at = v_now, lease_expires_at = v_now + make_interval(secs => p_seconds)
     WHERE id = p_id AND lease_token = p_token AND state = 'processing'
       AND NOT EXISTS (SELECT FROM covering_holds_v1(p_worker))
       AND NOT kind = ANY (held_kinds_v1());
    RETURN FOUND;
END $$;
