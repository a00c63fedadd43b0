-- Counts the queue and stores the result for all workers that are scraped (queue_counts).
-- The cap is well above the depths that alerts ask for. If more than 200 kinds have jobs, the result names 100 of them, and
-- those that a living worker names in its metrics (the first 200 of its kinds, 1,000 in all). The sums of all others are in
-- rows without a kind. So the result and a scrape stay small. Named are the three most urgent kinds of each figure
-- (kinds_v1), then those that the last count named, then the next most urgent ones. So few series begin and end.
-- Three things differ in the rows without a kind:
--   - what is due of a paused kind is stored as "later", because it cannot run now
--   - the part "kinds" says how many kinds they are
--   - the part "workers" is 0 if one of the kinds has queued jobs and no living worker
-- Called by the metrics endpoint, in the background, after claim_count_v1. The caller sets a time limit.
CREATE OR REPLACE FUNCTION recount_v1(p_cap integer DEFAULT 10000, p_total integer DEFAULT 300000) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
DECLARE
    v_now    timestamptz := clock_timestamp();
    v_counts jsonb;
    v_kinds  bigint;
BEGIN
    SET LOCAL synchronous_commit = off;
    SELECT coalesce(jsonb_agg(to_jsonb(c)), '[]'), count(DISTINCT c.kind) INTO v_counts, v_kinds
      FROM count_jobs_v1(p_cap, p_total) c;
    IF v_kinds > 200 THEN
        WITH k AS MATERIALIZED (
            SELECT k.kind, k.urgency, k.queued, k.workers FROM kinds_v1(v_counts) k WHERE k.kind IS NOT NULL
        ), before AS (
            SELECT DISTINCT b.kind #>> '{}' AS kind FROM queue_counts q, jsonb_path_query(q.counts, '$[*].kind') AS b (kind)
        ), known AS (
            SELECT DISTINCT n.kind FROM workers w JOIN beats b ON b.worker_id = w.id, unnest(w.kinds[1:200]) AS n (kind)
             WHERE lives_v1(b.beat_at) LIMIT 1000
        ), named AS MATERIALIZED (
            (SELECT k.kind FROM k LEFT JOIN before b ON b.kind = k.kind
              ORDER BY (k.urgency <= 3) IS TRUE DESC, b.kind IS NULL, k.urgency, k.kind LIMIT 100)
            UNION SELECT kind FROM known
        ), counted AS MATERIALIZED (
            SELECT n.kind, h.target IS NOT NULL AND n.kind IS NULL AS held, c.kind AS its, c.part, c.jobs, c.oldest, c.capped
              FROM jsonb_to_recordset(v_counts) AS c (kind text, part text, jobs bigint, oldest timestamptz, capped boolean)
                   LEFT JOIN named n ON n.kind = c.kind
                   LEFT JOIN standing_holds h ON h.scope = 'kind' AND h.target = c.kind
        ), folded AS (
            SELECT kind, CASE WHEN held AND part = 'due' THEN 'later' ELSE part END AS part, sum(jobs) AS jobs,
                   min(oldest) FILTER (WHERE NOT held) AS oldest, bool_or(capped) AS capped
              FROM counted GROUP BY 1, 2
            UNION ALL
            SELECT NULL, 'kinds', count(DISTINCT its), NULL, false FROM counted WHERE kind IS NULL
            UNION ALL
            SELECT NULL, 'workers', coalesce(min(k.workers), 1), NULL, false
              FROM k LEFT JOIN named n ON n.kind = k.kind WHERE n.kind IS NULL AND k.queued > 0
        )
        SELECT jsonb_agg(to_jsonb(f)) INTO v_counts FROM folded f;
    END IF;
    UPDATE queue_counts
       SET counts = v_counts, counted_at = v_now, seconds = extract(epoch FROM clock_timestamp() - v_now);
END $$;
