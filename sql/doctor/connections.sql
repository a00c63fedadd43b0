-- Connections run out: of the server, of the database (CONNECTION LIMIT), or of a login (CONNECTION LIMIT). A worker that starts
-- or connects again then gets none. Of the server, those reserved for superusers do not count as free. In the limit of a login or
-- of a database, which may be small, the doctor's own connection does not count.
WITH sessions AS MATERIALIZED (
    SELECT a.usesysid, a.datid, a.usename, a.application_name, a.state, a.pid = pg_backend_pid() AS own FROM pg_stat_activity a
     WHERE a.datid IS NOT NULL AND a.usesysid IS NOT NULL AND a.leader_pid IS NULL
       AND coalesce(a.backend_type, 'client backend') = 'client backend'  -- null: this login may not see it
), limits AS (
    SELECT 'the server' AS whose, (SELECT count(*) FROM sessions) AS used,
           current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
               - coalesce(current_setting('reserved_connections', true), '0')::integer AS most,  -- since PostgreSQL 16
           NULL::oid AS login, NULL::oid AS database
    UNION ALL
    SELECT format('the database %s', d.datname), (SELECT count(*) FROM sessions s WHERE s.datid = d.oid AND NOT s.own),
           d.datconnlimit, NULL, d.oid
      FROM pg_database d WHERE d.datname = current_database() AND d.datconnlimit > 0
    UNION ALL
    SELECT format('the login %s', r.rolname), (SELECT count(*) FROM sessions s WHERE s.usesysid = r.oid AND NOT s.own),
           r.rolconnlimit, r.oid, NULL
      FROM pg_roles r
     WHERE r.rolconnlimit > 0 AND NOT r.rolsuper
       AND EXISTS (SELECT FROM sessions s JOIN pg_database d ON d.oid = s.datid AND d.datname = current_database()
                    WHERE s.usesysid = r.oid)
)
SELECT CASE WHEN used >= :used_up_part * most THEN 'critical' ELSE 'warning' END AS severity,
       format('%s of the %s connections of %s are used', used, most, whose) AS said,
       jsonb_build_object('used', used, 'limit', most, 'of', whose, 'most_have', (
           SELECT jsonb_agg(to_jsonb(h) ORDER BY h.connections DESC)
             FROM (SELECT s.usename AS login, s.application_name AS program, count(*) AS connections,
                          count(*) FILTER (WHERE s.state = 'idle') AS idle,
                          count(*) FILTER (WHERE s.state LIKE 'idle in transaction%') AS idle_in_transaction
                     FROM sessions s
                    WHERE (limits.login IS NULL OR s.usesysid = limits.login)
                      AND (limits.database IS NULL OR s.datid = limits.database)
                    GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 5) h)) AS evidence,
       NULL::timestamptz AS since
  FROM limits
 WHERE used >= :used_part * most
