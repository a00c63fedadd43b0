-- Counts the leases that ended badly from p_since to before p_before, for each kind and outcome and each p_width of time. The
-- outcomes are failed, poison, crashed and lease_lost. A row is one JSON object: at (the first of them), last, kind, outcome,
-- jobs (how many), and job (the smallest id). The newest p_limit rows come, the newest last.
-- It reads the days of the history that the window touches, and no other day.
CREATE OR REPLACE FUNCTION ended_badly_v1(p_since timestamptz, p_before timestamptz, p_width interval, p_limit integer)
RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT jsonb_build_object('at', readable_v1(n.at), 'last', readable_v1(n.last), 'kind', n.kind, 'outcome', n.outcome,
                              'jobs', n.jobs, 'job', n.job)
      FROM (SELECT min(h.finished_at) AS at, max(h.finished_at) AS last, h.kind, h.outcome, count(*) AS jobs, min(h.id) AS job
              FROM job_history h
             WHERE h.finished_at >= p_since AND h.finished_at < p_before
               AND h.outcome IN ('failed', 'poison', 'crashed', 'lease_lost')
             GROUP BY date_bin(p_width, h.finished_at, '2000-01-01 00:00Z'), h.kind, h.outcome
             ORDER BY 1 DESC, h.kind, h.outcome LIMIT p_limit) n
     ORDER BY n.at, n.kind, n.outcome;
END $$;
