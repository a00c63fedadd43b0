-- Each kind that has jobs, a pause or a worker: its jobs by state, how many of the queued could run now, how many are
-- held, since when the oldest of them waits, and how many living workers handle it.
CREATE OR REPLACE FUNCTION kinds_v1() RETURNS TABLE (
    kind text, queued bigint, processing bigint, paused bigint, failed bigint, runnable bigint, held bigint,
    oldest_seconds double precision, workers bigint)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    WITH counted AS (
        SELECT j.kind,
               count(*) FILTER (WHERE j.state = 'queued') AS queued,
               count(*) FILTER (WHERE j.state = 'processing') AS processing,
               count(*) FILTER (WHERE j.state = 'paused') AS paused,
               count(*) FILTER (WHERE j.state = 'failed') AS failed,
               count(*) FILTER (WHERE j.state = 'queued' AND j.run_at <= now()) AS due,
               min(j.run_at) FILTER (WHERE j.state = 'queued' AND j.run_at <= now() AND isfinite(j.run_at)) AS oldest
          FROM jobs j GROUP BY j.kind
    ), handled AS (
        SELECT k.kind, count(*) AS workers FROM workers w, unnest(w.kinds) AS k (kind)
         WHERE w.beat_at > clock_timestamp() - interval '30 seconds' GROUP BY k.kind
    ), stopped AS (
        SELECT EXISTS (SELECT FROM holds WHERE scope = 'fleet' AND (until IS NULL OR until > clock_timestamp())) AS fleet,
               held_kinds_v1() AS kinds
    )
    SELECT kind, coalesce(c.queued, 0), coalesce(c.processing, 0), coalesce(c.paused, 0), coalesce(c.failed, 0),
           CASE WHEN s.fleet OR kind = ANY (s.kinds) THEN 0 ELSE coalesce(c.due, 0) END,
           coalesce(c.paused, 0) + CASE WHEN s.fleet OR kind = ANY (s.kinds) THEN coalesce(c.queued, 0) ELSE 0 END,
           CASE WHEN c.oldest IS NOT NULL THEN greatest(0, extract(epoch FROM now() - c.oldest)::double precision) END,
           coalesce(h.workers, 0)
      FROM counted c FULL JOIN handled h USING (kind)
      FULL JOIN (SELECT target AS kind FROM holds WHERE scope = 'kind') p USING (kind)
      CROSS JOIN stopped s
     ORDER BY kind
$$;
