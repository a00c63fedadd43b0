-- A transaction that keeps vacuum from removing dead rows. Each lease and each settle leaves dead rows, so the queue gets slower.
-- A worker's own transactions are short; a dump's is long, and ends.
SELECT CASE WHEN t.seconds >= 3600 THEN 'critical' ELSE 'warning' END AS severity,
       format('pid %s keeps vacuum from removing dead rows', t.pid) AS said,
       jsonb_build_object('pid', t.pid, 'login', t.usename, 'program', t.application_name, 'state', t.state,
                          'seconds', round(t.seconds::numeric)) AS evidence,
       t.xact_start AS since
  FROM (SELECT a.pid, a.usename, a.application_name, a.state, a.xact_start,
               date_part('epoch', clock_timestamp() - a.xact_start) AS seconds
          FROM pg_stat_activity a
         WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid()) t
 WHERE t.seconds >= 300
