-- Lists the kinds with what they did lately, and how long their backlog will take, as one JSON object each.
-- An object has all of named_kinds_v1, and
--   windows          for 5m, 1h and 24h: seconds (for which there are figures), ok, retry, failed, poison, released, crashed,
--                    lease_lost; runs and failures (figures_v1); per_second: ok per second; failure_ratio: failures of the runs;
--                    wait and run: percentiles in seconds (percentiles_v1)
--   backlog          how many jobs could run now. Counting stops after two million (backlogs_v1); capped says backlog then.
--                    The other counts stop earlier than those of status
--   backlog_seconds  until they have left the queue, if nothing arrives, at the pace of the shortest window in which any job
--                    came to its end (figures_v1, as rate_v1); backlog_window is that window. Null: none did in 24 hours
-- Of very many kinds it names the largest and the most urgent ones, as named_kinds_v1 does, and those with the most runs and
-- failures of the last hour. The sums of the others have no percentiles and no backlog_seconds. p_most null names all.
-- Inside, '' stands for them: with it, the joins of 20,000 kinds are hashed.
-- p_kind limits it to one kind. Called by `stats`, `kinds` and `top`.
CREATE OR REPLACE FUNCTION stats_v1(p_kind text DEFAULT NULL, p_most integer DEFAULT 50) RETURNS SETOF jsonb
LANGUAGE sql VOLATILE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
    WITH f AS MATERIALIZED (SELECT * FROM figures_v1(p_kind)),
    active AS (
        SELECT f.kind, row_number() OVER (ORDER BY f.runs DESC, f.kind) <= p_most / 6
                       OR f.failures > 0 AND row_number() OVER (ORDER BY f.failures DESC, f.kind) <= p_most / 6 AS named
          FROM f WHERE f."window" = '1h'
    ), n AS MATERIALIZED (
        SELECT n.object, n.object->>'kind' AS kind, (n.object->>'runnable')::numeric AS runnable,
               (n.object->'capped') ? 'runnable' AS capped
          FROM named_kinds_v1(
                   p_most, p_kind,
                   (SELECT coalesce(jsonb_agg(to_jsonb(c)), '[]')
                      FROM (SELECT c.kind, c.part, c.jobs, c.oldest, c.capped, c.id
                              FROM count_jobs_v1(10000, 100000, p_kind) c
                            UNION ALL
                            SELECT DISTINCT f.kind, 'figures', 0, NULL::timestamptz, false, NULL::bigint FROM f) c),
                   ARRAY(SELECT a.kind FROM active a WHERE a.named)) AS n (object)
    ), k AS MATERIALIZED (  -- where counting stopped early, the backlog is counted on
        SELECT n.object || jsonb_build_object(
                   'queued', greatest((n.object->>'queued')::numeric, b.jobs), 'runnable', v.backlog, 'backlog', v.backlog,
                   'capped', CASE WHEN v.capped THEN (n.object->'capped') || '["backlog"]'
                                  ELSE (n.object->'capped') - 'runnable' END) AS object,
               n.kind, v.backlog
          FROM n LEFT JOIN backlogs_v1(ARRAY(SELECT o.kind FROM n o WHERE o.capped AND o.kind IS NOT NULL
                                              ORDER BY o.runnable DESC, o.kind)) b ON b.kind = n.kind,
               LATERAL (SELECT greatest(n.runnable, b.jobs), coalesce(b.capped, n.capped)) AS v (backlog, capped)
    ), of_kind AS (  -- kinds that are not named: their sums
        SELECT n.kind, f."window", sum(f.ok) AS ok, sum(f.retry) AS retry, sum(f.failed) AS failed,
               sum(f.poison) AS poison, sum(f.released) AS released, sum(f.crashed) AS crashed, sum(f.lease_lost) AS lease_lost,
               sum(f.runs) AS runs, sum(f.failures) AS failures
          FROM f LEFT JOIN k n ON n.kind = f.kind
         GROUP BY 1, 2
    ), told AS (
        SELECT k.kind, jsonb_object_agg(w."window", jsonb_build_object(
                   'seconds', round(w.seconds::numeric, 1),
                   'ok', coalesce(o.ok, 0), 'retry', coalesce(o.retry, 0), 'failed', coalesce(o.failed, 0),
                   'poison', coalesce(o.poison, 0), 'released', coalesce(o.released, 0), 'crashed', coalesce(o.crashed, 0),
                   'lease_lost', coalesce(o.lease_lost, 0), 'runs', coalesce(o.runs, 0), 'failures', coalesce(o.failures, 0),
                   'per_second', coalesce(o.ok::double precision / w.seconds, 0),
                   'failure_ratio', round(o.failures / nullif(o.runs, 0), 4),
                   'wait', coalesce(p.wait, '{"p50": null, "p95": null, "p99": null}'),
                   'run', coalesce(p.run, '{"p50": null, "p95": null, "p99": null}'))) AS windows
          FROM k CROSS JOIN windows_v1() w
               LEFT JOIN of_kind o ON coalesce(o.kind, '') = coalesce(k.kind, '') AND o."window" = w."window"
               LEFT JOIN percentiles_v1(ARRAY(SELECT kind FROM k WHERE kind IS NOT NULL)) p
                      ON p.kind = k.kind AND p."window" = w."window"
         GROUP BY k.kind
    ), rate AS (
        SELECT DISTINCT ON (f.kind) f.kind, f."window", f.pace FROM f WHERE f.left_queue > 0 ORDER BY f.kind, f.place
    )
    SELECT k.object || jsonb_build_object(
               'windows', t.windows,
               'backlog_seconds', CASE WHEN k.kind IS NULL THEN NULL WHEN k.backlog = 0 THEN 0
                                       ELSE round(k.backlog / r.pace::numeric, 1) END,
               'backlog_window', CASE WHEN k.kind IS NOT NULL THEN r."window" END)
      FROM k JOIN told t ON coalesce(t.kind, '') = coalesce(k.kind, '') LEFT JOIN rate r ON r.kind = k.kind
     ORDER BY k.kind NULLS LAST
$$;
