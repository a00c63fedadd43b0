-- Tables of the queue with many dead rows that no vacuum removes, without autovacuum, or in a file that is much larger than
-- their rows can need. It reads PostgreSQL's statistics and no row. A flood makes a million dead rows in a minute and vacuum
-- removes them a minute later; so a recent vacuum is no finding, unless too many rows are dead all the same.
WITH ours AS MATERIALIZED (
    SELECT c.oid, c.relname, c.reloptions, s.n_dead_tup AS dead, greatest(s.n_live_tup, c.reltuples::bigint, 0) AS live,
           greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed,
           EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.relid = c.oid) AS at_work
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_stat_all_tables s ON s.relid = c.oid
     WHERE n.nspname = :'schema' AND c.relkind = 'r'
       AND c.relname IN ('jobs', 'workers', 'beats', 'holds', 'gate', 'sweeper', 'queue_counts', 'leases_returned', 'ramps',
                         'ramp_ends', 'kind_stats')
), sizes AS (
    -- A row that is longer than 2 KiB is stored outside of the table. An entry of the index has at most 300 bytes, unless the
    -- names of kinds are very long, and a page is at least half full.
    SELECT relname AS name, pg_relation_size(oid) AS bytes, (live + dead) * 2048 AS needs, live, dead,
           format('the file of the table %s is much larger than its rows need: PostgreSQL uses the room for new rows', relname)
               AS said
      FROM ours WHERE relname = 'jobs'
    UNION ALL
    SELECT i.relname, pg_relation_size(i.oid), (live + dead) * 600, live, dead,
           format('the index %s is much larger than its rows need: REINDEX INDEX CONCURRENTLY makes it small again', i.relname)
      FROM ours JOIN pg_index x ON x.indrelid = ours.oid JOIN pg_class i ON i.oid = x.indexrelid
     WHERE ours.relname = 'jobs'
)
SELECT CASE WHEN dead >= :too_many_dead_rows THEN 'critical' ELSE 'warning' END AS severity,
       format('the table %s has %s dead rows that no vacuum has removed', relname, dead) AS said,
       jsonb_build_object('table', relname, 'dead_rows', dead, 'live_rows', live, 'vacuumed', vacuumed,
                          'vacuum_runs', at_work) AS evidence,
       vacuumed AS since
  FROM ours
 WHERE dead >= :too_many_dead_rows
    OR (dead >= CASE relname WHEN 'jobs' THEN :many_dead_rows ELSE :many_dead_rows / 10 END AND NOT at_work
        AND coalesce(vacuumed, '-infinity') < clock_timestamp() - make_interval(secs => :unvacuumed_seconds)
        AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => :unvacuumed_seconds))
UNION ALL
SELECT 'warning', format('autovacuum is off for the table %s', relname),
       jsonb_build_object('table', relname, 'dead_rows', dead, 'live_rows', live, 'vacuumed', vacuumed), vacuumed
  FROM ours
 WHERE EXISTS (SELECT FROM pg_options_to_table(reloptions) o WHERE o.option_name = 'autovacuum_enabled'
                                                               AND NOT o.option_value::boolean)
UNION ALL
SELECT 'warning', format('autovacuum is off in the whole server, because the setting %s is off', name),
       jsonb_build_object('setting', name), NULL
  FROM unnest(ARRAY['autovacuum', 'track_counts']) AS name
 WHERE NOT current_setting(name)::boolean
UNION ALL
SELECT 'notice', said, jsonb_build_object('name', name, 'bytes', bytes, 'live_rows', live, 'dead_rows', dead), NULL
  FROM sizes
 WHERE bytes >= :large_bytes AND bytes > 4 * needs
