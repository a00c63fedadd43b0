-- Waits until a committed hold is certain.
-- Then no lease of its scope can begin any more, and no job that was leased before can still start.
-- p_scope and p_target are those of the hold. p_timeout is in seconds; null means no limit.
-- Returns true when the hold is certain, and false if the time was not enough. Of each round of waiting at most one second
-- counts, so that a step of the clock adds no more than that.
-- Raises an error outside of READ COMMITTED, and if this transaction wrote a hold that it has not committed.
-- It waits in two steps:
--   1. For the transactions that hold the gate now. A transaction that takes the gate later has a newer snapshot, so it
--      sees the hold. barrier_v1 never takes the gate exclusively, because one stuck lease would then stall the fleet. It
--      does not wait for a reader such as a dump, which may take hours: the lock of a reader has another mode. It does not
--      wait for a holder without the right to lease either: PREPARE locks the tables of its statement without a check of
--      rights.
--   2. Until no lease of the scope is younger than 800 ms. A job starts within 200 ms of its lease query, or within 400 ms
--      of one more look at the holds (start_v1). The rest is for a worker that stands still just before the handler's first
--      line. A lease that lies in the future (an UPDATE, or a clock that was set back) counts as granted now. The clock is
--      read once, to find the young leases and the time to wait for them. From then on sleeps are counted, and each sleep
--      lasts at least as long as requested. So the clock may be set meanwhile.
CREATE OR REPLACE FUNCTION barrier_v1(p_scope text, p_target text DEFAULT '', p_timeout double precision DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    v_waited   double precision := 0;  -- seconds
    v_then     timestamptz := clock_timestamp();
    v_holders  text[];
    v_old      timestamptz;
    v_left     double precision;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'barrier_v1 needs READ COMMITTED, this transaction is %', current_setting('transaction_isolation');
    END IF;
    IF EXISTS (SELECT FROM holds WHERE xmin = pg_current_xact_id_if_assigned()::xid) THEN
        RAISE EXCEPTION 'the hold is not committed yet' USING HINT = 'Call barrier_v1 in a transaction of its own.';
    END IF;
    LOOP
        SELECT array_agg(l.virtualtransaction) INTO v_holders
          FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE l.locktype = 'relation' AND l.relation = 'gate'::regclass AND l.mode = 'RowShareLock' AND l.granted
           AND pid <> pg_backend_pid()
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND (v_holders IS NULL OR l.virtualtransaction = ANY (v_holders))
           -- MEMBER: the session may also get the right by SET ROLE.
           AND EXISTS (SELECT FROM pg_roles r WHERE has_table_privilege(r.oid, 'gate', 'UPDATE')
                          AND pg_has_role(a.usesysid, r.oid, 'MEMBER'));
        EXIT WHEN v_holders IS NULL;
        IF v_waited >= p_timeout THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(0.005);
        v_waited := v_waited + least(greatest(seconds_since_v1(v_then), 0.005), 1);
        v_then := clock_timestamp();
    END LOOP;
    v_old := clock_timestamp() - interval '800 milliseconds';
    SELECT max(0.8 - greatest(coalesce(seconds_since_v1(leased_at), 0), 0)) INTO v_left
      FROM in_scope_v1(p_scope, p_target) WHERE leased_at > v_old;
    WHILE v_left > 0 AND EXISTS (SELECT FROM in_scope_v1(p_scope, p_target) WHERE leased_at > v_old) LOOP
        IF v_waited >= p_timeout THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(least(v_left, 0.02));
        v_waited := v_waited + least(greatest(seconds_since_v1(v_then), least(v_left, 0.02)), 1);
        v_then := clock_timestamp();
        v_left := v_left - 0.02;
    END LOOP;
    RETURN true;
END $$;
