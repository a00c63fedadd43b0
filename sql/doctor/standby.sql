-- A standby that holds back vacuum (hot_standby_feedback), that is far behind, or for which every commit waits. Of a standby
-- with a slot, the slot has the oldest transaction; without one, its own row. Nobody knows since when, so transactions count. A
-- subscriber (logical replication) is no standby, but a commit may wait for it; `replication-slot` says how far it is behind.
WITH standbys AS (
    SELECT r.pid, r.usename, r.application_name, r.client_addr, r.state, r.sync_state, s.slot_name, s.slot_type,
           greatest(age(r.backend_xmin), age(s.xmin)) AS transactions,
           pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                           r.flush_lsn) AS bytes,
           format('%s (pid %s)', coalesce(nullif(r.application_name, ''), 'without a name'), r.pid) AS name
      FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
), found AS (
    SELECT s.*, CASE WHEN transactions >= :many_transactions THEN 'warning' END AS severity,
           format('a query on the standby %s keeps vacuum from removing dead rows here', name) AS said
      FROM standbys s WHERE slot_type IS DISTINCT FROM 'logical'
    UNION ALL
    SELECT s.*, CASE WHEN bytes >= :much_wal_bytes THEN 'warning' END,
           format('the standby %s is %s behind: a failover to it would lose the jobs of that time', name, pg_size_pretty(bytes))
      FROM standbys s WHERE slot_type IS DISTINCT FROM 'logical'
), wanted AS (  -- 'a', 'FIRST 2 (a, b)', 'ANY 2 (a, b, c)', '2 (a, b)'
    SELECT name, coalesce(substring(name FROM '(\d+)\s*\(')::integer, 1) AS number
      FROM current_setting('synchronous_standby_names') AS name WHERE name <> ''
), connected AS (
    SELECT count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS number, count(*) FILTER (WHERE state IS NULL) AS unseen
      FROM standbys
)
SELECT severity, said,
       jsonb_build_object('pid', pid, 'login', usename, 'program', application_name, 'address', host(client_addr),
                          'state', state, 'sync_state', sync_state, 'slot', slot_name, 'transactions', transactions,
                          'bytes', bytes) AS evidence,
       NULL::timestamptz AS since
  FROM found
 WHERE severity IS NOT NULL
UNION ALL
SELECT 'critical', format('every commit waits for %s standby(s) of synchronous_standby_names, and %s of them are connected',
                          w.number, c.number),
       jsonb_build_object('synchronous_standby_names', w.name), NULL
  FROM wanted w, connected c
 WHERE c.number < w.number AND c.unseen = 0 AND NOT pg_is_in_recovery()
   AND current_setting('synchronous_commit') NOT IN ('off', 'local')
UNION ALL
SELECT 'unchecked', format('only in part: the login %s may not see how far standbys are behind: GRANT pg_read_all_stats TO %I',
                           current_user, current_user), NULL, NULL
 WHERE EXISTS (SELECT FROM standbys WHERE state IS NULL)
