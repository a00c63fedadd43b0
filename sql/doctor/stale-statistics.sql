-- Tables of the queue whose statistics the planner can't trust, because no ANALYZE has run since most rows changed. Our own
-- functions do not depend on them: they fix their plans. Queries of the application and of operators do.
WITH ours AS (
    SELECT c.relname, s.n_mod_since_analyze AS changes, greatest(s.n_live_tup, 0) AS live, c.reltuples < 0 AS never,
           greatest(s.last_analyze, s.last_autoanalyze) AS analyzed
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_stat_all_tables s ON s.relid = c.oid
     WHERE n.nspname = :'schema' AND c.relkind = 'r'
       AND (c.relname IN ('jobs', 'workers', 'beats', 'ramp_ends', 'leases_returned', 'kind_stats')
            OR c.relname ~ '^job_history_')
)
-- A table that is new and large was most likely filled a moment ago: autovacuum analyzes it within minutes.
SELECT CASE WHEN never THEN 'notice' ELSE 'warning' END AS severity,
       format(CASE WHEN never THEN 'the table %s has %s new rows, and was never analyzed'
                   ELSE 'the table %s was not analyzed since %s of its rows changed' END
              || ': queries of the application and of operators may get bad plans; the queue does not', relname, changes) AS said,
       jsonb_build_object('table', relname, 'changes', changes, 'live_rows', live, 'analyzed', analyzed) AS evidence,
       analyzed AS since
  FROM ours
 WHERE changes >= :many_changes AND changes > live / 5
   AND (never OR coalesce(analyzed, '-infinity') < clock_timestamp() - make_interval(secs => :unvacuumed_seconds)
                 AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => :unvacuumed_seconds))
