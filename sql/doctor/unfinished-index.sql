-- An index on a table of the queue that was never finished: a CREATE INDEX CONCURRENTLY or a REINDEX CONCURRENTLY failed. Each
-- write pays for it, and no read uses it. While such a command runs in this database, nobody knows whether it will fail. Our
-- own indexes are not looked at here: schema-parts says whether they work.
SELECT 'warning' AS severity,
       format('the index %s on the table %s was never finished: each write pays for it, and no read uses it', i.relname, t.relname)
           AS said,
       jsonb_build_object('index', i.relname, 'table', t.relname, 'bytes', pg_relation_size(i.oid)) AS evidence,
       NULL::timestamptz AS since
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
 WHERE n.nspname = :'schema' AND t.relname IN ('jobs', 'workers', 'beats', 'holds', 'job_history') AND NOT x.indisvalid
   AND i.relname NOT IN ('jobs_pkey', 'jobs_queue', 'jobs_leases', 'jobs_parked', 'workers_pkey', 'beats_pkey', 'holds_pkey',
                         'job_history_id')
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.datname = current_database())
