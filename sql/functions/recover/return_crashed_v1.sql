-- Takes jobs back from owners that are gone: into the queue, or failed at the third crash (processing → queued or failed).
-- Their attempts are given back. p_held says for each job how many leases its owner held:
--   one      the crash is counted. The job is due at once after the first crash, 30 s later (± 20 %) after the second.
--   several  nobody can say which job was running, so no crash is counted. From now on each of them is leased alone, so that
--            the culprit shows itself and takes no other job along.
-- A job that was leased was due: it is due now, even if the clock was set back since. p_delay puts that off by so many seconds,
-- a year at most; the longer of the two delays counts. p_refused says why the database refuses to queue the jobs again; with
-- it, they fail instead. Each job gets a row in the history and is counted for the metrics (leases_returned)
-- and, if nobody has locked that table, for `stats` (kind_stats).
-- Called by return_dead_v1, whose caller has locked the rows.
CREATE OR REPLACE FUNCTION return_crashed_v1(p_ids bigint[], p_held bigint[], p_error text, p_refused text DEFAULT NULL,
                                             p_delay double precision DEFAULT 0)
RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, :"schema", pg_temp
-- As in settle_v1: one plan, by the primary key, because the planner's statistics of a queue are never up to date.
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_rows :"schema".job_history[];
BEGIN
    WITH owned AS (
        SELECT j AS job, j.*, h.held, least(greatest(j.crashes, 0), 1000000) + 1 AS crash
          FROM ROWS FROM (pg_catalog.unnest(p_ids), pg_catalog.unnest(p_held)) h (id, held), :"schema".jobs j
         WHERE j.id = h.id AND j.state || '' = 'processing'
    ), judged AS (
        SELECT o.*, p_refused IS NOT NULL OR o.held = 1 AND o.crash >= 3 AS poison,
               least(31536000::float8, greatest(p_delay, CASE
                   WHEN o.held > 1 OR o.crash = 1 THEN 0::float8
                   ELSE 30::float8 * (0.8::float8 + 0.4::float8 * pg_catalog.random()) END)) AS wait,
               p_error || CASE WHEN o.held > 1
                               THEN pg_catalog.concat('; it held ', o.held, ' jobs, so each is leased alone now') ELSE '' END AS error
          FROM owned o
    ), returned AS (
        UPDATE :"schema".jobs j
           SET state = CASE WHEN o.poison THEN 'failed' ELSE 'queued' END,
               run_at = CASE WHEN o.wait > 0::float8 THEN clock_timestamp() + pg_catalog.make_interval(secs => o.wait)
                             ELSE least(j.run_at, clock_timestamp()) END,
               attempts = greatest(o.attempts, 1) - 1,
               crashes = CASE WHEN o.held > 1 THEN j.crashes ELSE o.crash END,
               alone = true,
               last_error = CASE WHEN p_refused IS NOT NULL THEN 'the database refuses to queue it again (' || p_refused || '): '
                                 WHEN o.poison THEN pg_catalog.concat('poison: crash number ', o.crash, ': ')
                                 ELSE '' END || o.error,
               leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
          FROM judged o
         WHERE j.id = o.id
    )
    SELECT pg_catalog.array_agg(:"schema".ended_v1(
               o.job, CASE WHEN o.poison THEN 'poison' ELSE 'crashed' END, o.error, '7d', NULL))
      INTO v_rows FROM judged o;
    PERFORM :"schema".count_ended_v1(
                pg_catalog.array_agg(r.kind), pg_catalog.array_agg(r.outcome), pg_catalog.array_agg(1::bigint))
       FROM pg_catalog.unnest(v_rows) r;
    -- Figures that can't be written are left out: no lock and no fault there may keep a job from its recovery.
    BEGIN
        LOCK TABLE :"schema".kind_stats IN ROW EXCLUSIVE MODE NOWAIT;
        INSERT INTO :"schema".kind_stats (kind, crashed, poison)
        SELECT r.kind, count(*) FILTER (WHERE r.outcome = 'crashed'), count(*) FILTER (WHERE r.outcome = 'poison')
          FROM pg_catalog.unnest(v_rows) r GROUP BY r.kind;
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    -- For a ramp, the death of a worker is one run that ended badly: most of its jobs had not started.
    PERFORM :"schema".ramp_ended_v1(pg_catalog.json_agg(c), false)
       FROM (SELECT r.kind, r.leased_by, max(r.leased_at) AS leased_at FROM pg_catalog.unnest(v_rows) r GROUP BY 1, 2) c;
    PERFORM :"schema".record_v1(v_rows);
    RETURN QUERY SELECT r.id, r.kind, r.outcome FROM pg_catalog.unnest(v_rows) r;
END $$;
