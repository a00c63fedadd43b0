-- The queue of notifications, one for the whole server, fills up. A session that listens and stays in one transaction keeps
-- everything since. Nobody can see who listens, so the oldest transactions of all databases are named. Workers at rest then
-- look every half second (wakes_come_v1), and enqueues stop notifying (wake_v1). When it is full, every other transaction that
-- sends a notification fails at its COMMIT.
WITH oldest AS (
    SELECT a.* FROM pg_stat_activity a
     WHERE a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
     ORDER BY a.xact_start LIMIT 3
)
SELECT CASE WHEN used >= :notify_full_part THEN 'critical' ELSE 'warning' END AS severity,
       format('the queue of notifications is %s %% full: %s', round(used::numeric * 100), CASE WHEN used >= :notify_full_part
              THEN 'soon every transaction that sends a notification fails'
              ELSE 'workers at rest look every half second for jobs, and are not woken' END) AS said,
       jsonb_build_object('used', round(used::numeric, 3), 'oldest_transactions', (
           SELECT jsonb_agg(jsonb_build_object('pid', a.pid, 'login', a.usename, 'program', a.application_name,
                                               'address', host(a.client_addr), 'database', a.datname, 'state', a.state,
                                               'seconds', round(date_part('epoch', clock_timestamp() - a.xact_start)::numeric))
                            ORDER BY a.xact_start)
             FROM oldest a)) AS evidence,
       (SELECT min(xact_start) FROM oldest) AS since
  FROM pg_notification_queue_usage() AS used
 WHERE used >= :notify_part
