-- Says who has locked a row (session_v1); null if nobody has. p_xmax is the row's system column xmax.
-- It writes nothing, so it also works in a transaction that is READ ONLY: no lock is tried. A row's xmax is the transaction that
-- last locked or changed the row, or the number of a list of several such transactions (a multixact). It stays there after
-- they have ended. A transaction that goes on holds a lock of its own number in pg_locks. Nothing in SQL tells a transaction's
-- number from that of a list. So a row could seem locked in the rare case that one number means both, and the other goes on.
-- Called by lock_checks_v1.
CREATE OR REPLACE FUNCTION locker_v1(p_xmax xid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off
AS $$
DECLARE
    v_several xid[];
BEGIN
    IF p_xmax::text = '0' THEN
        RETURN NULL;
    END IF;
    BEGIN
        v_several := ARRAY(SELECT m.xid FROM pg_get_multixact_members(p_xmax) m);
    EXCEPTION WHEN OTHERS THEN
        v_several := '{}';  -- there is no such list
    END;
    RETURN (SELECT session_v1(l.pid, l.transactionid::text) FROM pg_locks l
             WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
               AND (l.transactionid = p_xmax OR l.transactionid = ANY (v_several))
               AND l.pid IS DISTINCT FROM pg_backend_pid()
             ORDER BY l.transactionid = p_xmax DESC, l.pid LIMIT 1);
END $$;
