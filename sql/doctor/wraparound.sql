-- Transaction ids run out: PostgreSQL refuses all writes when the oldest row that is not frozen is 2,100,000,000 transactions
-- old. Autovacuum prevents that, unless it is off, fails, or something holds it back. Each database counts: all share the ids.
SELECT CASE WHEN age >= :too_unfrozen THEN 'critical' ELSE 'warning' END AS severity,
       format('the database %s has rows that were not frozen for %s %s: at 2100000000 PostgreSQL refuses all writes', datname,
              age, what) AS said,
       jsonb_build_object('database', datname, 'age', age, 'of', what,
                          'autovacuum_freeze_max_age', current_setting('autovacuum_freeze_max_age')::bigint) AS evidence,
       NULL::timestamptz AS since
  FROM pg_database, LATERAL (VALUES (age(datfrozenxid), 'transactions'), (mxid_age(datminmxid), 'multixacts')) AS v (age, what)
 WHERE age >= :unfrozen
