-- processing → queued, or failed at the third crash, for jobs whose owner is gone. The attempts are given back. If the
-- owner held a single job, the crash is counted: at once runnable after the first, 30 s later (± 20 %) after the second.
-- If it held several, nobody can say which of them was running: no crash is counted, but from now on each is leased
-- alone, so that the culprit shows itself and takes no other along. Each is counted for the metrics (leases_returned).
-- What was leased was due, and is so again if the clock was set back since.
-- The caller has locked all of a dead owner's rows, and knows why. Called by sweep_v1 and release_worker_v1.
CREATE OR REPLACE FUNCTION return_crashed_v1(p_ids bigint[], p_error text)
RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH locked AS (
        SELECT j.* FROM jobs j WHERE j.id = ANY (p_ids) AND j.state = 'processing' FOR UPDATE
    ), others AS (  -- that the same owner still holds: of another kind, with a longer lease
        SELECT j.worker_id, count(*) AS held FROM jobs j
         WHERE j.state = 'processing' AND j.id <> ALL (p_ids) GROUP BY j.worker_id
    ), owned AS (
        SELECT l.*, count(*) OVER owner + coalesce(o.held, 0) AS held, least(greatest(l.crashes, 0), 1000000) + 1 AS crash
          FROM locked l LEFT JOIN others o USING (worker_id)
        WINDOW owner AS (PARTITION BY coalesce(l.worker_id::text, l.id::text))
    ), judged AS (
        SELECT o.*, o.held = 1 AND o.crash >= 3 AS poison,
               p_error || CASE WHEN o.held > 1 THEN format('; it held %s jobs, so each is leased alone now', o.held)
                               ELSE '' END AS error
          FROM owned o
    ), returned AS (
        UPDATE jobs j
           SET state = CASE WHEN o.poison THEN 'failed' ELSE 'queued' END,
               run_at = CASE WHEN o.held > 1 OR o.crash = 1 THEN least(j.run_at, clock_timestamp())
                             ELSE clock_timestamp() + make_interval(secs => 30 * (0.8 + 0.4 * random())) END,
               attempts = greatest(o.attempts, 1) - 1,
               crashes = CASE WHEN o.held > 1 THEN j.crashes ELSE o.crash END,
               alone = true,
               last_error = CASE WHEN o.poison THEN format('poison: crash number %s: ', o.crash) ELSE '' END || o.error,
               leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
          FROM judged o
         WHERE j.id = o.id
    ), counted AS (
        INSERT INTO leases_returned AS r (kind, crashed, poison)
        SELECT o.kind, count(*) FILTER (WHERE NOT o.poison), count(*) FILTER (WHERE o.poison)
          FROM judged o GROUP BY o.kind ORDER BY o.kind  -- two at once, in the same order: no deadlock
        ON CONFLICT (kind) DO UPDATE  -- an odd row must not overflow here
           SET crashed = least(r.crashed, 9223372036854775807 - excluded.crashed) + excluded.crashed,
               poison = least(r.poison, 9223372036854775807 - excluded.poison) + excluded.poison
    )
    INSERT INTO job_history (id, kind, outcome, attempts, leased_by, leased_at, finished_at, error, lease_token, retention)
    SELECT o.id, o.kind, CASE WHEN o.poison THEN 'poison' ELSE 'crashed' END, o.attempts, o.leased_by, o.leased_at,
           clock_timestamp(), o.error, o.lease_token, '7d'
      FROM judged o
    RETURNING id, kind, outcome
$$;
