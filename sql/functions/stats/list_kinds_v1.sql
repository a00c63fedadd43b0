-- Lists the kinds as stats_v1 does, and for each which hosts have living workers of it, and its pause or ramp.
--   hosts  how many living workers of the kind each host has: {"web1": 2}. Null for the sums of kinds without a name
--   hold   the pause of the kind, as shown_hold_v1 shows it, with its ramp. Null: it is not paused
-- Called by `kinds`.
CREATE OR REPLACE FUNCTION list_kinds_v1(p_kind text DEFAULT NULL, p_most integer DEFAULT 50) RETURNS SETOF jsonb
LANGUAGE sql VOLATILE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
    WITH s AS MATERIALIZED (
        SELECT s.object, s.object->>'kind' AS kind, s.at FROM stats_v1(p_kind, p_most) WITH ORDINALITY AS s (object, at)
    ), hosts AS (
        SELECT w.kind, jsonb_object_agg(w.host, w.workers) AS hosts
          FROM (SELECT k.kind, w.host, count(*) AS workers
                  FROM workers w JOIN beats b ON b.worker_id = w.id, unnest(w.kinds) AS k (kind)
                 WHERE lives_v1(b.beat_at) AND k.kind IN (SELECT s.kind FROM s)
                 GROUP BY 1, 2) w
         GROUP BY 1
    )
    SELECT s.object || jsonb_build_object(
               'hosts', CASE WHEN s.kind IS NOT NULL THEN coalesce(h.hosts, '{}') END,
               'hold', (SELECT shown_hold_v1(p.id) FROM standing_holds p WHERE p.scope = 'kind' AND p.target = s.kind))
      FROM s LEFT JOIN hosts h ON h.kind = s.kind
     ORDER BY s.at
$$;
