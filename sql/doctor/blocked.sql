-- A session that keeps workers from the tables of the queue: it has a lock that stops writing, or waits for one, so that all
-- others wait behind it. It reads only what PostgreSQL knows of locks, so it needs no lock itself.
WITH ours AS (
    SELECT c.oid, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = :'schema'
       AND (c.relname IN ('jobs', 'gate', 'workers', 'beats', 'holds', 'sweeper', 'queue_counts', 'leases_returned', 'ramps',
                          'ramp_ends', 'kind_stats') OR c.relname ~ '^job_history')
), locks AS MATERIALIZED (
    SELECT l.pid, l.mode, l.granted, l.waitstart, o.relname FROM pg_locks l JOIN ours o ON o.oid = l.relation
     WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
), strong AS (
    SELECT l.pid, l.relname, l.granted, l.mode, a.usename, a.application_name, a.client_addr, a.state,
           -- Who may not see when the transaction began, goes by the longest wait for the table.
           CASE WHEN NOT l.granted THEN l.waitstart
                WHEN l.pid IS NULL THEN (SELECT min(prepared) FROM pg_prepared_xacts WHERE database = current_database())
                ELSE coalesce(a.xact_start, (SELECT min(w.waitstart) FROM locks w WHERE w.relname = l.relname)) END AS since
      FROM locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
       AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = l.pid)  -- it gives its lock up for others
), first AS (
    SELECT DISTINCT ON (pid) * FROM strong
     WHERE since <= clock_timestamp() - make_interval(secs => :locked_seconds) ORDER BY pid, relname <> 'jobs', since
)
SELECT 'critical' AS severity,
       format('%s %s a lock on %s, so workers can''t write there',
              CASE WHEN pid IS NULL THEN 'a prepared transaction'
                   ELSE format('pid %s (%s)', pid, concat_ws(', ', usename, nullif(application_name, ''), host(client_addr))) END,
              CASE WHEN granted THEN 'has' ELSE 'waits for' END, relname) AS said,
       jsonb_build_object('pid', pid, 'login', usename, 'program', application_name, 'address', host(client_addr), 'state', state,
                          'table', relname, 'mode', mode, 'has_it', granted, 'waits_for', CASE WHEN NOT granted
                                                                                     THEN pg_blocking_pids(pid) END,
                          'others_wait', (SELECT count(*) FROM locks w WHERE NOT w.granted AND w.relname = first.relname
                                             AND w.pid IS DISTINCT FROM first.pid),
                          'seconds', round(date_part('epoch', clock_timestamp() - since)::numeric)) AS evidence,
       since
  FROM first
