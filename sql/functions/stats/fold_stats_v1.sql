-- Folds rows of past spans into rows of longer ones: 10 seconds into minutes, these after more than ten minutes into ten minutes,
-- these after more than an hour into hours. Removes what is older than 25 hours, or begins later than in 25 hours: somebody has
-- set the clock back by more than that.
-- At most p_most rows at once: 2,000 rows took 0.8 s. Rows that become one are taken together. Rows add up, so a row that is
-- written late stays a row of its own, and two calls at once take different rows. No call waits for another.
-- Called by write_stats_v1.
CREATE OR REPLACE FUNCTION fold_stats_v1(p_most integer) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
    WITH t AS MATERIALIZED (
        SELECT now, now - interval '25 hours' AS first, now + interval '25 hours' AS last,
               date_bin('1 minute', now, '2000-01-01 00:00:00+00') AS minute,
               date_bin('10 minutes', now, '2000-01-01 00:00:00+00') - interval '10 minutes' AS ten_minutes,
               date_bin('1 hour', now, '2000-01-01 00:00:00+00') - interval '1 hour' AS hour
          FROM clock_timestamp() AS c (now)
    ), past AS MATERIALIZED (
        SELECT s.id FROM kind_stats s
         WHERE s.id = ANY (ARRAY(SELECT p.id
                                   FROM t, LATERAL (VALUES (10, t.minute), (60, t.ten_minutes), (600, t.hour), (3600, t.first))
                                            AS r (seconds, before),
                                        LATERAL ((SELECT o.id FROM kind_stats o
                                                   WHERE o.seconds = r.seconds AND o.folds_into < r.before
                                                   ORDER BY o.folds_into, o.kind LIMIT p_most)
                                                 UNION ALL
                                                 (SELECT o.id FROM kind_stats o
                                                   WHERE o.seconds = r.seconds AND o.folds_into > t.last
                                                   ORDER BY o.folds_into, o.kind LIMIT p_most)) p
                                  LIMIT p_most))
           FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM kind_stats s USING past WHERE s.id = past.id RETURNING s.*
    ), kept AS MATERIALIZED (
        SELECT g.*, n.longer, g.folds_into AS since
          FROM gone g JOIN (VALUES (10, 60), (60, 600), (600, 3600)) AS n (seconds, longer) USING (seconds), t
         WHERE g.begins BETWEEN t.first AND t.now
    ), buckets AS (
        SELECT b.kind, b.longer, b.since,
               coalesce(jsonb_object_agg(b.bucket, b.n) FILTER (WHERE b.waits), '{}') AS waits,
               coalesce(jsonb_object_agg(b.bucket, b.n) FILTER (WHERE NOT b.waits), '{}') AS runs
          FROM (SELECT k.kind, k.longer, k.since, h.waits, e.key AS bucket,
                       least(1000000000000000, sum(e.value::numeric)) AS n
                  FROM kept k, LATERAL (VALUES (true, k.waits), (false, k.runs)) AS h (waits, histogram),
                       jsonb_each_text(h.histogram) AS e
                 GROUP BY 1, 2, 3, 4, 5) b
         GROUP BY 1, 2, 3
    ), summed AS (
        SELECT k.kind, k.longer, k.since, sum(k.ok) AS ok, sum(k.retry) AS retry, sum(k.failed) AS failed, sum(k.poison) AS poison,
               sum(k.released) AS released, sum(k.crashed) AS crashed, sum(k.lease_lost) AS lease_lost
          FROM kept k GROUP BY 1, 2, 3
    )
    INSERT INTO kind_stats (kind, seconds, begins, ok, retry, failed, poison, released, crashed, lease_lost, waits, runs)
    SELECT s.kind, s.longer, s.since, least(1000000000000000, s.ok), least(1000000000000000, s.retry),
           least(1000000000000000, s.failed), least(1000000000000000, s.poison), least(1000000000000000, s.released),
           least(1000000000000000, s.crashed), least(1000000000000000, s.lease_lost),
           coalesce(b.waits, '{}'), coalesce(b.runs, '{}')
      FROM summed s LEFT JOIN buckets b USING (kind, longer, since)
$$;
