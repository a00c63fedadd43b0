-- A transaction that was prepared for a two-phase commit, and that nobody ended. It survives a restart. It keeps its locks, and
-- keeps vacuum from removing dead rows. One of another database does that, too, while sessions here are at work, because their
-- snapshots are as old as it is. So it counts once there are many dead rows.
SELECT CASE WHEN dead >= :too_many_dead_rows THEN 'critical' ELSE 'warning' END AS severity,
       format('the prepared transaction %L of %s has not ended; it keeps its locks, and keeps vacuum from removing dead rows',
              gid, owner) AS said,
       jsonb_build_object('gid', gid, 'login', owner, 'database', database, 'seconds', round(seconds::numeric), 'transactions',
                          transactions, 'dead_rows', dead) AS evidence,
       prepared AS since
  FROM (SELECT p.gid, p.owner, p.database, p.prepared, age(p.transaction) AS transactions,
               date_part('epoch', clock_timestamp() - p.prepared) AS seconds,
               (SELECT s.n_dead_tup FROM pg_stat_all_tables s WHERE s.schemaname = :'schema' AND s.relname = 'jobs') AS dead
          FROM pg_prepared_xacts p) t
 WHERE seconds >= :old_seconds AND (database = current_database() OR dead >= :many_dead_rows)
