-- queued → processing, for at most p_limit jobs of one kind: the first of p_kinds, in their order, that has a
-- runnable job; within the kind by priority, then run_at. p_seconds holds each kind's lease timeout.
-- Returns no rows when there is nothing to run, when a hold covers the worker, or when its row in workers is gone.
--
-- The gate: a shared advisory lock, taken by a statement of its own before the one that leases. Each statement here
-- has a snapshot of its own, so a lease that began after a hold was committed sees the hold; and whoever sets a hold
-- waits for those who have the gate now (barrier_v1), after which nobody can have missed it. In one statement the
-- snapshot would be older than the lock. Called by the main thread of a worker, as a transaction of its own.
CREATE OR REPLACE FUNCTION lease_v1(
    p_worker uuid, p_token uuid, p_kinds text[], p_seconds double precision[], p_limit integer DEFAULT 1
) RETURNS TABLE (id bigint, kind text, payload text, attempts integer, max_attempts integer, crashes integer,
                 waited double precision)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    v_now       timestamptz;
    v_held      text[];
    v_leased_by text;
    v_priority  integer;
    v_ids       bigint[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'lease_v1 needs READ COMMITTED, this transaction is %', current_setting('transaction_isolation')
            USING HINT = 'Under a snapshot older than the gate a lease could slip past a hold.';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(7301, schema_key_v1());

    SELECT w.host || ':' || w.pid INTO v_leased_by FROM workers w WHERE w.id = p_worker;
    IF NOT FOUND OR EXISTS (SELECT FROM covering_holds_v1(p_worker)) THEN
        UPDATE workers w SET idle = true WHERE w.id = p_worker AND NOT w.idle;
        RETURN;
    END IF;
    v_held := held_kinds_v1();
    v_now := clock_timestamp();

    FOR i IN 1 .. cardinality(p_kinds) LOOP
        CONTINUE WHEN p_kinds[i] = ANY (v_held);
        v_priority := -32769;  -- below the least
        LOOP
            -- From priority to priority, so that scheduled jobs of one don't stand before due jobs of the next.
            SELECT min(j.priority) INTO v_priority FROM jobs j
             WHERE j.state = 'queued' AND j.kind = p_kinds[i] AND j.priority > v_priority;
            EXIT WHEN v_priority IS NULL;

            -- A job that crashed before is leased alone: if it kills its worker again, it takes no other along.
            SELECT CASE WHEN (array_agg(c.crashes))[1] > 0 THEN (array_agg(c.id))[1:1]
                        ELSE array_agg(c.id) FILTER (WHERE c.crashes <= 0) END
              INTO v_ids
              FROM (SELECT j.id, j.crashes FROM jobs j
                     WHERE j.state = 'queued' AND j.kind = p_kinds[i] AND j.priority = v_priority AND j.run_at <= v_now
                     ORDER BY j.run_at, j.id
                     LIMIT p_limit
                       FOR UPDATE SKIP LOCKED) c;
            CONTINUE WHEN v_ids IS NULL;

            RETURN QUERY
            UPDATE jobs j
               SET state = 'processing', leased_by = v_leased_by, leased_at = v_now, worker_id = p_worker,
                   lease_token = p_token, lease_expires_at = v_now + make_interval(secs => p_seconds[i]),
                   attempts = least(j.attempts, 2147483646) + 1  -- an odd row must not overflow here
             WHERE j.id = ANY (v_ids)
            RETURNING j.id, j.kind, j.payload::text, j.attempts, j.max_attempts, j.crashes,
                      CASE WHEN isfinite(j.run_at)
                           THEN extract(epoch FROM v_now)::double precision - extract(epoch FROM j.run_at)::double precision
                           ELSE 0 END;
            RETURN;
        END LOOP;
    END LOOP;

    UPDATE workers w SET idle = true WHERE w.id = p_worker AND NOT w.idle;
END $$;
