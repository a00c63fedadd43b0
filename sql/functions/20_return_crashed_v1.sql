-- processing → queued, or failed at the third crash, for jobs whose owner is gone. The attempt is given back and the
-- crash counted instead: at once runnable after the first, 30 s later (± 20 %) after the second. The caller has
-- locked the rows and knows why. Called by sweep_v1 and release_worker_v1.
CREATE OR REPLACE FUNCTION return_crashed_v1(p_ids bigint[], p_error text)
RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH owned AS (
        SELECT j.id, j.kind, j.payload, j.attempts, j.leased_by, j.leased_at, j.lease_token,
               least(greatest(j.crashes, 0), 1000000) + 1 AS crashes
          FROM jobs j WHERE j.id = ANY (p_ids) AND j.state = 'processing' FOR UPDATE
    ), returned AS (
        UPDATE jobs j
           SET state = CASE WHEN o.crashes >= 3 THEN 'failed' ELSE 'queued' END,
               run_at = CASE WHEN o.crashes = 1 THEN j.run_at
                             ELSE clock_timestamp() + make_interval(secs => 30 * (0.8 + 0.4 * random())) END,
               attempts = greatest(o.attempts, 1) - 1,
               crashes = o.crashes,
               last_error = CASE WHEN o.crashes >= 3 THEN 'poison: crash number ' || o.crashes || ': ' ELSE '' END || p_error,
               leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
          FROM owned o
         WHERE j.id = o.id
    )
    INSERT INTO job_history (id, kind, outcome, attempts, leased_by, leased_at, finished_at, error, lease_token, retention)
    SELECT o.id, o.kind, CASE WHEN o.crashes >= 3 THEN 'poison' ELSE 'crashed' END, o.attempts, o.leased_by, o.leased_at,
           clock_timestamp(), p_error, o.lease_token, '7d'
      FROM owned o
    RETURNING id, kind, outcome
$$;
