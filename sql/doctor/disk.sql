-- What fills the database's disk: an archive of the write-ahead log that fails, and a history that will be much larger when it
-- has all the days that it keeps. Free space can't be seen in SQL: that is doctor/disk.py.
WITH days AS (
    SELECT p.relname AS class, pg_total_relation_size(c.oid) AS bytes, to_date(right(c.relname, 8), 'YYYYMMDD') AS day
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
      JOIN pg_namespace n ON n.oid = p.relnamespace
     WHERE n.nspname = :'schema' AND p.relname ~ '^job_history_[0-9]+d$' AND c.relname ~ '_[0-9]{8}$'
), classes AS (
    SELECT class, sum(bytes) AS bytes, substring(class FROM '([0-9]+)d$')::integer AS keeps,
           max(bytes) FILTER (WHERE day = (clock_timestamp() AT TIME ZONE 'UTC')::date - 1) AS yesterday
      FROM days GROUP BY class
)
SELECT 'warning' AS severity,
       'PostgreSQL can''t archive its write-ahead log, so it keeps all of it' AS said,
       jsonb_build_object('file', last_failed_wal, 'failed', failed_count, 'last_failed', last_failed_time,
                          'last_archived', last_archived_time) AS evidence,
       coalesce(last_archived_time, stats_reset) AS since
  FROM pg_stat_archiver
 WHERE current_setting('archive_mode') <> 'off' AND last_failed_time > coalesce(last_archived_time, '-infinity')
   AND last_failed_time >= coalesce(last_archived_time, stats_reset) + make_interval(secs => :old_seconds)
UNION ALL
SELECT 'notice', format('%s will grow from %s to about %s, if each day is like yesterday', class, pg_size_pretty(bytes),
                        pg_size_pretty(yesterday * keeps)),
       jsonb_build_object('table', class, 'bytes', bytes, 'yesterday', yesterday, 'days_kept', keeps,
                          'database', pg_database_size(current_database())), NULL
  FROM classes WHERE yesterday * keeps - bytes >= 10 * :large_bytes::bigint
