-- Kinds with queued jobs that no living worker knows. If no worker lives at all, no-worker says so. A paused kind does not
-- count, but one that is resumed in steps does, as in the alert KindUnhandled. It skips from kind to kind: no count.
WITH RECURSIVE kinds (kind, n) AS (
    SELECT min(j.kind), 1 FROM :"schema".jobs j WHERE j.state = 'queued'
    UNION ALL
    SELECT (SELECT min(j.kind) FROM :"schema".jobs j WHERE j.state = 'queued' AND j.kind > k.kind), k.n + 1
      FROM kinds k WHERE k.kind IS NOT NULL AND k.n < 2000
), living AS MATERIALIZED (
    SELECT w.kinds FROM :"schema".workers w JOIN :"schema".beats b ON b.worker_id = w.id
     WHERE b.beat_at > clock_timestamp() - interval '30 s' AND b.beat_at < clock_timestamp() + interval '30 s'
), known AS MATERIALIZED (SELECT DISTINCT u.kind FROM living l, unnest(l.kinds) AS u (kind) WHERE u.kind IS NOT NULL)
SELECT 'warning' AS severity,
       CASE count(*) WHEN 1 THEN format('jobs of kind %s are queued, and no living worker knows that kind', min(k.kind))
                     ELSE format('jobs of %s kinds are queued, and no living worker knows those kinds', count(*)) END AS said,
       jsonb_build_object('kinds', (array_agg(k.kind ORDER BY k.kind))[:10]) AS evidence, NULL::timestamptz AS since
  FROM kinds k
 WHERE k.kind IS NOT NULL AND EXISTS (SELECT FROM living) AND k.kind NOT IN (SELECT w.kind FROM known w)
   AND NOT EXISTS (SELECT FROM :"schema".standing_holds h LEFT JOIN :"schema".ramps r ON r.hold_id = h.id
                    WHERE h.scope = 'kind' AND h.target = k.kind AND r.hold_id IS NULL)
HAVING count(*) > 0
