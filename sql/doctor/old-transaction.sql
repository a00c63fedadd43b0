-- A transaction that keeps vacuum from removing dead rows. Each lease and each settle leaves some, so the tables grow and every
-- count of the queue takes longer. Vacuum looks at the transactions of this database alone, and past another VACUUM. But their
-- snapshots are as old as the oldest transaction of the server that writes. So one that writes elsewhere counts once there are
-- many dead rows. A dump (pg_dump) takes long, and then ends, so it is a notice until there are too many dead rows.
WITH known AS (
    SELECT a.pid, a.datname, coalesce(a.usename, a.backend_type) AS login, a.application_name, a.client_addr, a.state,
           a.backend_xid, a.xact_start,
           date_part('epoch', clock_timestamp() - a.xact_start) AS seconds,
           greatest(age(a.backend_xid), age(a.backend_xmin)) AS transactions,
           a.application_name IN ('pg_dump', 'pg_dumpall') AS dumps,
           (SELECT s.n_dead_tup FROM pg_stat_all_tables s WHERE s.schemaname = :'schema' AND s.relname = 'jobs') AS dead
      FROM pg_stat_activity a
     WHERE a.datname IS NOT NULL AND a.pid <> pg_backend_pid() AND a.leader_pid IS NULL
       AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL)
       AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
)
SELECT CASE WHEN dead >= :too_many_dead_rows THEN 'critical'
            WHEN dumps AND dead < :many_dead_rows THEN 'notice' ELSE 'warning' END AS severity,
       format('the transaction of pid %s (%s) keeps vacuum from removing dead rows', pid,
              concat_ws(', ', login, nullif(application_name, ''), host(client_addr),
                        CASE WHEN datname <> current_database() THEN format('database %s', datname) END))
           || CASE WHEN state LIKE 'idle in transaction%' THEN '; it is open, and does nothing' ELSE '' END AS said,
       jsonb_build_object('pid', pid, 'login', login, 'program', application_name, 'address', host(client_addr),
                          'database', datname, 'state', state, 'seconds', round(seconds::numeric), 'transactions', transactions,
                          'dead_rows', dead) AS evidence,
       xact_start AS since
  FROM known
 WHERE (datname = current_database() OR (backend_xid IS NOT NULL AND dead >= :many_dead_rows))
   AND (seconds >= :old_seconds OR (xact_start IS NULL AND transactions >= :many_transactions))
UNION ALL
SELECT 'unchecked', format('only in part: the login %s may not see since when the transactions of other logins are open:'
                           || ' GRANT pg_read_all_stats TO %I', current_user, current_user), NULL, NULL
 WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE')
