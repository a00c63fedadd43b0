-- True once a hold that is committed is certain: no lease of its scope can begin any more, and none that was granted
-- can still start. False if p_timeout seconds (null: no limit) were not enough. In two steps:
--   1. wait for those transactions that have the gate now. Whoever takes it later has a newer snapshot: it sees the
--      hold. The gate is never taken exclusively, which would stall the fleet behind one stuck lease.
--   2. a job starts within 400 ms of its lease query, or after one more look at the holds (start_v1): wait until no
--      lease of the scope is younger than 800 ms. The rest is for a worker that stands still before the handler's first line.
CREATE OR REPLACE FUNCTION barrier_v1(p_scope text, p_target text DEFAULT '', p_timeout double precision DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    v_deadline timestamptz := clock_timestamp() + make_interval(secs => p_timeout);
    v_holders  text[];
    v_young    interval;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'barrier_v1 needs READ COMMITTED, this transaction is %', current_setting('transaction_isolation');
    END IF;
    IF EXISTS (SELECT FROM holds WHERE xmin = pg_current_xact_id_if_assigned()::xid) THEN
        RAISE EXCEPTION 'the hold is not committed yet' USING HINT = 'Call barrier_v1 in a transaction of its own.';
    END IF;
    LOOP
        SELECT array_agg(virtualtransaction) INTO v_holders
          FROM pg_locks
         WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND pid <> pg_backend_pid()
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND classid = 7301 AND objid::bigint = schema_key_v1()::bigint & 4294967295
           AND (v_holders IS NULL OR virtualtransaction = ANY (v_holders));
        EXIT WHEN v_holders IS NULL;
        IF clock_timestamp() >= v_deadline THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(0.005);
    END LOOP;
    LOOP
        SELECT max(leased_at) + interval '800 milliseconds' - clock_timestamp() INTO v_young
          FROM in_scope_v1(p_scope, p_target) WHERE isfinite(leased_at);
        EXIT WHEN v_young IS NULL OR v_young <= interval '0';
        IF clock_timestamp() >= v_deadline THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(least(extract(epoch FROM v_young)::double precision, 0.02));
    END LOOP;
    RETURN true;
END $$;
