-- Lists how long jobs of some kinds waited and ran, by kind and window: {"p50": seconds, "p95": ..., "p99": ...}.
-- A percentile is the middle of its bucket, so it is wrong by at most 10 %. Null: there was no such job.
-- The buckets of a thousand kinds are three million, and a sort of them takes longer than all the rest, so they are hashed. And
-- the index would be searched once for each kind, from its beginning to its end: kind || '' keeps the planner from that.
-- Called by stats_v1.
CREATE OR REPLACE FUNCTION percentiles_v1(p_kinds text[]) RETURNS TABLE (kind text, "window" text, wait jsonb, run jsonb)
LANGUAGE sql VOLATILE SET search_path FROM CURRENT SET jit = off SET enable_sort = off SET work_mem = '32MB'
AS $$
    WITH w AS MATERIALIZED (SELECT * FROM windows_v1()),
    b AS MATERIALIZED (SELECT min(starts) AS day, max(starts) FILTER (WHERE place = 2) AS hour, max(starts) AS minutes FROM w),
    counted AS MATERIALIZED (
        SELECT s.kind, s.age, h.what, e.key::bigint AS us, sum(e.value::double precision) AS n
          FROM (SELECT s.*, CASE WHEN s.begins >= b.minutes THEN 1 WHEN s.begins >= b.hour THEN 2 ELSE 3 END AS age
                  FROM b, kind_stats s
                 WHERE s.begins >= b.day AND s.begins <= clock_timestamp() AND s.kind || '' IN (SELECT unnest(p_kinds))) s,
               LATERAL (VALUES ('wait', s.waits), ('run', s.runs)) AS h (what, histogram),
               jsonb_each_text(h.histogram) AS e (key, value)
         GROUP BY 1, 2, 3, 4
    ), ranked AS (
        SELECT c.kind, w."window", c.what, c.us,
               sum(sum(c.n)) OVER (PARTITION BY c.kind, w."window", c.what ORDER BY c.us) AS up_to,
               sum(sum(c.n)) OVER (PARTITION BY c.kind, w."window", c.what) AS all_of_them
          FROM counted c JOIN w ON c.age <= w.place
         GROUP BY 1, 2, 3, 4 HAVING sum(c.n) > 0
    ), told AS (
        SELECT r.kind, r."window", r.what, jsonb_build_object(
                   'p50', min(r.us) FILTER (WHERE r.up_to >= 0.50 * r.all_of_them)::double precision / 1e6,
                   'p95', min(r.us) FILTER (WHERE r.up_to >= 0.95 * r.all_of_them)::double precision / 1e6,
                   'p99', min(r.us) FILTER (WHERE r.up_to >= 0.99 * r.all_of_them)::double precision / 1e6) AS percentiles
          FROM ranked r GROUP BY 1, 2, 3
    )
    SELECT t.kind, t."window", (array_agg(t.percentiles) FILTER (WHERE t.what = 'wait'))[1],
           (array_agg(t.percentiles) FILTER (WHERE t.what = 'run'))[1]
      FROM told t GROUP BY 1, 2
$$;
