-- True once a hold that is committed is certain: no lease of its scope can begin any more, and none that was granted
-- can still start. False if p_timeout seconds (null: no limit) were not enough. Of each round at most a second
-- counts, so that a step of the clock counts as no more. In two steps:
--   1. wait for those transactions that have the gate now. Whoever takes it later has a newer snapshot: it sees the
--      hold. The gate is never taken exclusively, which would stall the fleet behind one stuck lease. Who reads the table,
--      as a dump does for hours, has a lock of another mode: nobody waits for him. Nor for who has the right lock without
--      the right to lease: PREPARE locks the tables of its statement, and asks for no right to them.
--   2. a job starts within 200 ms of its lease query, or within 400 ms of one more look at the holds (start_v1): wait until
--      no lease of the scope is younger than 800 ms. The rest is for a worker that stands still before the handler's first line.
--      A lease of the future (an UPDATE, a clock that was set back) counts as granted just now. The clock is asked once
--      which leases are young, and how long to wait for them; then sleeps are counted, each of which lasts as long as it
--      says or longer: so the clock may be set meanwhile.
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
           -- MEMBER: also by a SET ROLE of the session's.
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
