-- Lists each kind that has jobs, a pause or a living worker, with its counts.
--   queued, processing, paused, failed  its jobs in each state
--   runnable        how many of the queued jobs could run now
--   held            how many jobs are held
--   oldest_seconds  for how long the oldest due job has waited
--   expired         how many of its leases have expired
--   workers         how many living workers handle it
--   capped          the figures that are only a lower bound, because counting stopped
--
-- p_counts is an older result of count_jobs_v1 (see recount_v1); null means to count now.
-- Called by status_v1 and, through counted_kinds_v1, by queue_gauges_v1.
CREATE OR REPLACE FUNCTION kinds_v1(p_counts jsonb DEFAULT NULL) RETURNS TABLE (
    kind text, queued bigint, processing bigint, paused bigint, failed bigint, runnable bigint, held bigint,
    oldest_seconds double precision, expired bigint, workers bigint, capped text[])
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    WITH counts AS (
        SELECT * FROM count_jobs_v1() WHERE p_counts IS NULL
        UNION ALL
        SELECT * FROM jsonb_to_recordset(p_counts) AS c (kind text, part text, jobs bigint, oldest timestamptz, capped boolean)
    ), counted AS (
        SELECT c.kind,
               coalesce(sum(c.jobs) FILTER (WHERE c.part IN ('due', 'later')), 0)::bigint AS queued,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'due'), 0)::bigint AS due,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'processing'), 0)::bigint AS processing,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'expired'), 0)::bigint AS expired,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'paused'), 0)::bigint AS paused,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'failed'), 0)::bigint AS failed,
               min(c.oldest) AS oldest,
               coalesce(array_agg(c.part) FILTER (WHERE c.capped), '{}') AS capped
          FROM counts c GROUP BY c.kind
    ), handled AS (
        SELECT k.kind, count(*) AS workers FROM workers w JOIN beats b ON b.worker_id = w.id, unnest(w.kinds) AS k (kind)
         WHERE lives_v1(b.beat_at) AND k.kind IS NOT NULL GROUP BY k.kind
    ), stopped AS (
        SELECT EXISTS (SELECT FROM standing_holds WHERE scope = 'fleet') AS fleet,
               held_kinds_v1() AS kinds
    ), named AS (
        SELECT kind, coalesce(c.queued, 0) AS queued, coalesce(c.due, 0) AS due, coalesce(c.processing, 0) AS processing,
               coalesce(c.expired, 0) AS expired, coalesce(c.paused, 0) AS paused, coalesce(c.failed, 0) AS failed,
               c.oldest, coalesce(c.capped, '{}') AS capped, coalesce(h.workers, 0) AS workers,
               s.fleet OR kind = ANY (s.kinds) AS stopped
          FROM counted c FULL JOIN handled h USING (kind)
          FULL JOIN (SELECT target AS kind FROM holds WHERE scope = 'kind') p USING (kind)
          CROSS JOIN stopped s
    )
    SELECT n.kind, n.queued, n.processing, n.paused, n.failed,
           CASE WHEN n.stopped THEN 0 ELSE n.due END,
           n.paused + CASE WHEN n.stopped THEN n.queued ELSE 0 END,
           CASE WHEN n.oldest IS NOT NULL THEN greatest(0, seconds_since_v1(n.oldest)) END,
           n.expired, n.workers,
           ARRAY(SELECT f.figure
                   FROM (VALUES ('queued', n.capped && '{due,later}'),
                                ('paused', n.capped && '{paused}'),
                                ('failed', n.capped && '{failed}'),
                                ('runnable', n.capped && '{due}' AND NOT n.stopped),
                                ('held', n.capped && '{paused}' OR (n.stopped AND n.capped && '{due,later}'))
                        ) AS f (figure, more)
                  WHERE f.more)
      FROM named n
     ORDER BY n.kind
$$;
