-- Explains locks as two checks of explain_job_v1. Both have in locker whose lock it is (session_v1), or null.
--   locked  a session has locked the job's row: a lease passes over it (SKIP LOCKED). p_xmax is the column xmax of that row
--   tables  a session has a lock of the table gate or jobs, or waits for one, and no lease begins meanwhile. what is the table
CREATE OR REPLACE FUNCTION lock_checks_v1(p_xmax xid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET jit = off
AS $$
    SELECT jsonb_build_array(
        jsonb_build_object('check', 'tables', 'ok', t.locker IS NULL, 'since', t.locker->'since', 'what', t.what,
                           'locker', t.locker),
        jsonb_build_object('check', 'locked', 'ok', r.locker IS NULL, 'since', r.locker->'since', 'locker', r.locker))
      FROM (SELECT locker_v1(p_xmax) AS locker) r
           LEFT JOIN LATERAL (
               SELECT l.relation::regclass::text AS what, session_v1(l.pid, (
                          -- Of a prepared transaction: its number, by a lock that it has of that number.
                          SELECT x.transactionid::text FROM pg_locks x
                           WHERE l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
                             AND x.virtualtransaction = l.virtualtransaction LIMIT 1)) AS locker
                 FROM pg_locks l
                WHERE l.locktype = 'relation'
                  AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                  AND (l.relation IN ('gate'::regclass, 'jobs'::regclass) AND l.mode IN ('ExclusiveLock', 'AccessExclusiveLock')
                       OR l.relation = 'jobs'::regclass AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock'))
                  AND l.pid IS DISTINCT FROM pg_backend_pid()
                ORDER BY l.granted DESC, l.pid LIMIT 1) t ON true
$$;
