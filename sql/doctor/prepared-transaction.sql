-- A transaction that was prepared for a two-phase commit, and that nobody ended. It survives a restart. It keeps its locks, and
-- keeps vacuum from removing dead rows.
SELECT CASE WHEN dead >= :too_many_dead_rows THEN 'critical' ELSE 'warning' END AS severity,
       format('the prepared transaction %L of %s has not ended; it keeps its locks, and keeps vacuum from removing dead rows',
              gid, owner) AS said,
       jsonb_build_object('gid', gid, 'login', owner, 'seconds', round(seconds::numeric), 'transactions', transactions,
                          'dead_rows', dead) AS evidence,
       prepared AS since
  FROM (SELECT p.gid, p.owner, p.prepared, age(p.transaction) AS transactions,
               date_part('epoch', clock_timestamp() - p.prepared) AS seconds,
               (SELECT s.n_dead_tup FROM pg_stat_all_tables s WHERE s.schemaname = :'schema' AND s.relname = 'jobs') AS dead
          FROM pg_prepared_xacts p WHERE p.database = current_database()) t
 WHERE seconds >= :old_seconds
