-- Returns all that the metrics endpoint shows of the queue, as a JSON object.
--   age, counted_at  of the last count in queue_counts: its age in seconds and its time; null if nobody has counted yet
--   kinds            each kind that has jobs as in kinds_v1, by that count, and those in p_known
--   paused           now: the paused kinds, and when each pause began; the oldest 200
--   paused_more      now: how many further kinds are paused
--   holds, workers   now: how many holds there are of each scope, and how many workers in each state
--   oldest_holds     now: of each scope, when the oldest hold without an end began
--   ramps            now: the ramp of each kind that has one (shown_ramp_v1), at most 200, those that stopped first
--   history_days     now: how many days after today have their partitions
--   schema           the version of the schema
--   dead_rows        the dead rows of jobs that no vacuum has removed yet, by PostgreSQL's statistics
--   returned         of all time: the counts that outlive workers (leases_returned), ordered by each kind's first entry
-- p_known are the kinds that the caller will name. Of all others, kinds and returned name 100 to 200, and have the sums of
-- the rest in one entry without a name. With p_known null (a worker of the former release) nothing is left out of these two.
-- It reads no row of jobs.
CREATE OR REPLACE FUNCTION queue_gauges_v1(p_known text[] DEFAULT NULL) RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    WITH counted AS MATERIALIZED (
        SELECT q.counted_at, k.kinds FROM queue_counts q, counted_kinds_v1(q.counts, p_known) AS k (kinds)
         WHERE q.counts IS NOT NULL AND k.kinds IS NOT NULL
    ), pauses AS MATERIALIZED (
        SELECT target, created, row_number() OVER (ORDER BY created, target) AS place FROM standing_holds WHERE scope = 'kind'
    ), ended AS MATERIALIZED (
        SELECT r.*, p_known IS NULL OR r.kind = ANY (p_known)
                    OR count(*) FILTER (WHERE NOT r.kind = ANY (p_known)) OVER (ORDER BY r.since, r.kind) <= 100 AS named
          FROM leases_returned r
    )
    SELECT jsonb_build_object(
        'age', (SELECT seconds_since_v1(counted_at) FROM counted),
        'counted_at', (SELECT date_part('epoch', readable_v1(counted_at)) FROM counted),
        'kinds', coalesce((SELECT kinds FROM counted), '[]'),
        'paused', (SELECT coalesce(jsonb_object_agg(target, date_part('epoch', readable_v1(created))), '{}')
                     FROM pauses WHERE place <= 200),
        'paused_more', (SELECT count(*) FROM pauses WHERE place > 200),
        'holds', (SELECT coalesce(jsonb_object_agg(scope, n), '{}')
                    FROM (SELECT scope, count(*) AS n FROM standing_holds GROUP BY scope) h),
        'oldest_holds', (SELECT coalesce(jsonb_object_agg(scope, since), '{}')
                           FROM (SELECT scope, min(date_part('epoch', readable_v1(created))) AS since
                                   FROM standing_holds WHERE until IS NULL GROUP BY scope) h),
        'ramps', (SELECT coalesce(jsonb_object_agg(r.kind, shown_ramp_v1(r.hold_id)), '{}')
                    FROM (SELECT * FROM ramps ORDER BY stopped_at, began LIMIT 200) r),
        'workers', (SELECT coalesce(jsonb_object_agg(state, n), '{}')
                      FROM (SELECT CASE WHEN lives_v1(beat_at) THEN state
                                        ELSE 'silent' END AS state, count(*) AS n
                              FROM workers LEFT JOIN beats ON worker_id = workers.id GROUP BY 1) w),
        'history_days', history_days_ready_v1(),
        'schema', (SELECT version FROM worker_schema),
        'dead_rows', pg_stat_get_dead_tuples('jobs'::regclass),
        'returned', (SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY since, kind), '[]') FROM ended r WHERE named)
            || (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]')
                  FROM (SELECT NULL::text AS kind, sum(ok) AS ok, sum(retry) AS retry, sum(failed) AS failed,
                               sum(poison) AS poison, sum(released) AS released, sum(crashed) AS crashed,
                               sum(lease_lost) AS lease_lost, sum(forced) AS forced
                          FROM ended WHERE NOT named HAVING count(*) > 0) s))
$$;
