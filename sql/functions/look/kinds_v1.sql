-- Lists each kind that has jobs, a pause or a living worker, with its counts.
--   queued, processing, paused, failed  its jobs in each state
--   running         at most how many of the leased jobs (processing) run: no more than the workers that have leased them
--   runnable        how many of the queued jobs could run now
--   held            how many jobs are held
--   oldest_seconds  for how long the oldest due job has waited
--   expired         how many of its leases have expired
--   workers         how many living workers handle it
--   retries         how many of the queued jobs ran before, and will run again
--   next_retry      when the next of these is due; next_retry_id is its id
--   capped          the figures that are only a lower bound, because counting stopped
--   urgency         its place among all kinds: 1 for the kind that is first in any figure that an operator must see; null if
--                   all of these are 0. Ages are compared by oldest: two readings of the clock would put equal ones in order
--   kinds           1; in the row without a name, how many further kinds that row has the sums of. 0 if nobody knows: see capped
--
-- p_counts is an older result of count_jobs_v1 (see recount_v1); null means to count now. p_kind limits it to one kind.
-- Called by status_v1, through named_kinds_v1, by recount_v1 and, through counted_kinds_v1, by queue_gauges_v1.
CREATE OR REPLACE FUNCTION kinds_v1(p_counts jsonb DEFAULT NULL, p_kind text DEFAULT NULL) RETURNS TABLE (
    kind text, queued bigint, processing bigint, paused bigint, failed bigint, running bigint, runnable bigint, held bigint,
    oldest_seconds double precision, expired bigint, workers bigint, retries bigint, next_retry timestamptz,
    next_retry_id bigint, capped text[], urgency bigint, kinds bigint)
LANGUAGE sql STABLE SET search_path FROM CURRENT SET jit = off
AS $$
    WITH counts AS (
        SELECT * FROM count_jobs_v1(p_kind => p_kind) WHERE p_counts IS NULL
        UNION ALL
        SELECT * FROM jsonb_to_recordset(p_counts)
            AS c (kind text, part text, jobs bigint, oldest timestamptz, capped boolean, id bigint)
    ), counted AS (
        SELECT c.kind,
               coalesce(sum(c.jobs) FILTER (WHERE c.part IN ('due', 'later')), 0)::bigint AS queued,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'due'), 0)::bigint AS due,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'processing'), 0)::bigint AS processing,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'expired'), 0)::bigint AS expired,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'running'), 0)::bigint AS running,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'paused'), 0)::bigint AS paused,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'failed'), 0)::bigint AS failed,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'retry'), 0)::bigint AS retries,
               min(c.oldest) FILTER (WHERE c.part = 'due') AS oldest,
               min(c.oldest) FILTER (WHERE c.part = 'retry') AS next_retry,
               (array_agg(c.id ORDER BY c.oldest) FILTER (WHERE c.part = 'retry'))[1] AS next_retry_id,
               coalesce(array_agg(c.part) FILTER (WHERE c.capped), '{}') AS capped,
               sum(c.jobs) FILTER (WHERE c.part = 'workers')::bigint AS workers,
               coalesce(sum(c.jobs) FILTER (WHERE c.part = 'kinds'), (c.kind IS NOT NULL)::integer)::bigint AS kinds
          FROM counts c GROUP BY c.kind
    ), alive AS MATERIALIZED (
        SELECT w.kinds FROM workers w JOIN beats b ON b.worker_id = w.id WHERE lives_v1(b.beat_at)
    ), handled AS (
        SELECT k.kind, count(*) AS workers FROM alive a, unnest(a.kinds) AS k (kind)
         WHERE k.kind IS NOT NULL AND (p_kind IS NULL OR k.kind = p_kind) GROUP BY k.kind
    ), named AS (
        SELECT kind, coalesce(c.queued, 0) AS queued, coalesce(c.due, 0) AS due, coalesce(c.processing, 0) AS processing,
               coalesce(c.expired, 0) AS expired, coalesce(c.running, 0) AS running, coalesce(c.paused, 0) AS paused,
               coalesce(c.failed, 0) AS failed, coalesce(c.retries, 0) AS retries, c.next_retry, c.next_retry_id, c.oldest,
               CASE WHEN c.oldest IS NOT NULL THEN greatest(0, seconds_since_v1(c.oldest)) END AS oldest_seconds,
               coalesce(c.capped, '{}') AS capped, coalesce(h.workers, c.workers, 0) AS workers, coalesce(c.kinds, 1) AS kinds,
               s.fleet OR p.kind IS NOT NULL AS stopped
          FROM counted c FULL JOIN handled h USING (kind)
          FULL JOIN (SELECT target AS kind FROM standing_holds
                      WHERE scope = 'kind' AND (p_kind IS NULL OR target = p_kind)) p USING (kind)
          CROSS JOIN (SELECT EXISTS (SELECT FROM standing_holds WHERE scope = 'fleet') AS fleet) s
    )
    SELECT n.kind, n.queued, n.processing, n.paused, n.failed, n.running,
           CASE WHEN n.stopped THEN 0 ELSE n.due END,
           n.paused + CASE WHEN n.stopped THEN n.queued ELSE 0 END,
           n.oldest_seconds, n.expired, n.workers, n.retries, n.next_retry, n.next_retry_id,
           CASE WHEN n.capped = '{}' THEN '{}'
                ELSE ARRAY(SELECT f.figure
                             FROM (VALUES ('queued', n.capped && '{due,later}'),
                                          ('paused', n.capped && '{paused}'),
                                          ('failed', n.capped && '{failed}'),
                                          ('retries', n.capped && '{due,later}'),
                                          ('runnable', n.capped && '{due}' AND NOT n.stopped),
                                          ('held', n.capped && '{paused}' OR (n.stopped AND n.capped && '{due,later}'))
                                  ) AS f (figure, more)
                            WHERE f.more)
           END,
           least(CASE WHEN n.queued + n.paused > 0 THEN row_number() OVER (ORDER BY n.queued + n.paused DESC, n.kind) END,
                 CASE WHEN NOT n.stopped AND n.due > 0
                      THEN row_number() OVER (ORDER BY n.stopped OR n.due = 0, n.oldest NULLS LAST, n.kind) END,
                 CASE WHEN n.queued > 0 AND n.workers = 0
                      THEN row_number() OVER (ORDER BY n.workers > 0, n.queued DESC, n.kind) END,
                 CASE WHEN n.processing > 0 THEN row_number() OVER (ORDER BY n.processing DESC, n.kind) END,
                 CASE WHEN n.failed > 0 THEN row_number() OVER (ORDER BY n.failed DESC, n.kind) END,
                 CASE WHEN n.retries > 0 THEN row_number() OVER (ORDER BY n.retries DESC, n.kind) END),
           n.kinds
      FROM named n
     ORDER BY n.kind
$$;
