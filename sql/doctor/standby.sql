-- A standby that holds back vacuum (hot_standby_feedback), that is far behind, or for which every commit waits. Of a standby
-- with a slot, the slot has the oldest transaction; without one, its own row. Nobody knows since when, so transactions count.
WITH standbys AS (
    SELECT r.pid, r.usename, r.application_name, r.client_addr, r.state, r.sync_state, s.slot_name,
           greatest(age(r.backend_xmin), age(s.xmin)) AS transactions,
           pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                           r.flush_lsn) AS bytes,
           format('%s (pid %s)', coalesce(nullif(r.application_name, ''), 'without a name'), r.pid) AS name
      FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid AND s.slot_type = 'physical'
), found AS (
    SELECT s.*, CASE WHEN transactions >= :many_transactions THEN 'warning' END AS severity,
           format('a query on the standby %s keeps vacuum from removing dead rows here', name) AS said
      FROM standbys s
    UNION ALL
    SELECT s.*, CASE WHEN bytes >= :much_wal_bytes THEN 'warning' END,
           format('the standby %s is %s behind: a failover to it would lose the jobs of that time', name, pg_size_pretty(bytes))
      FROM standbys s
)
SELECT severity, said,
       jsonb_build_object('pid', pid, 'login', usename, 'program', application_name, 'address', host(client_addr),
                          'state', state, 'sync_state', sync_state, 'slot', slot_name, 'transactions', transactions,
                          'bytes', bytes) AS evidence,
       NULL::timestamptz AS since
  FROM found
 WHERE severity IS NOT NULL
UNION ALL
SELECT 'critical', 'every commit waits, because no standby of synchronous_standby_names is connected',
       jsonb_build_object('synchronous_standby_names', current_setting('synchronous_standby_names')), NULL
 WHERE current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery()
   AND NOT EXISTS (SELECT FROM standbys WHERE sync_state IN ('sync', 'quorum') OR state IS NULL)
UNION ALL
SELECT 'unchecked', format('only in part: the login %s may not see how far standbys are behind: GRANT pg_read_all_stats TO %I',
                           current_user, current_user), NULL, NULL
 WHERE EXISTS (SELECT FROM standbys WHERE state IS NULL)
