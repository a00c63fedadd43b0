-- Living workers of another schema version than the database's: after their next restart they do not come back. Workers of
-- several releases are usual during an upgrade, so that is a notice.
WITH living AS MATERIALIZED (
    SELECT w.host, w.pid, w.version, w.schema_version FROM :"schema".workers w JOIN :"schema".beats b ON b.worker_id = w.id
     WHERE b.beat_at > clock_timestamp() - interval '30 s' AND b.beat_at < clock_timestamp() + interval '30 s'
)
SELECT 'warning' AS severity, format('%s worker(s) belong to another schema version than the database''s, %s', count(*), s.version) AS said,
       jsonb_build_object('workers', (array_agg(l.host || ':' || l.pid ORDER BY l.host, l.pid))[:10],
                          'schema_versions', (array_agg(DISTINCT l.schema_version))[:10]) AS evidence,
       NULL::timestamptz AS since
  FROM living l JOIN :"schema".worker_schema s ON s.version <> l.schema_version
 GROUP BY s.version
UNION ALL
SELECT 'notice', format('workers of %s releases work side by side', count(DISTINCT l.version)),
       jsonb_build_object('releases', (array_agg(DISTINCT l.version))[:10]), NULL
  FROM living l HAVING count(DISTINCT l.version) > 1
