-- Returns all that `shithubd-worker status` shows, counted at this moment, as a JSON object.
-- All leases are in it. Counts may be capped (count_jobs_v1): capped names the figures that are only a lower bound, for
-- each kind and for the sums.
-- history_drops says who last dropped all days of the history that were over, and how many wait now (waiting). late is how
-- many of those were over more than two days ago. There should be none: the timer runs each day, and a worker with the right
-- to drop looks every ten minutes.
CREATE OR REPLACE FUNCTION status_v1() RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    WITH k AS MATERIALIZED (SELECT * FROM kinds_v1())
    SELECT jsonb_build_object(
        'states', (SELECT jsonb_build_object('queued', coalesce(sum(queued), 0), 'processing', coalesce(sum(processing), 0),
                                             'paused', coalesce(sum(paused), 0), 'failed', coalesce(sum(failed), 0)) FROM k),
        'running', (SELECT coalesce(sum(processing), 0) FROM k),
        'held', (SELECT coalesce(sum(held), 0) FROM k),
        'capped', (SELECT coalesce(jsonb_agg(DISTINCT f.figure), '[]') FROM k, unnest(k.capped) AS f (figure)),
        'kinds', (SELECT coalesce(jsonb_agg(to_jsonb(k)), '[]') FROM k),
        'leases', (SELECT coalesce(jsonb_agg(l), '[]') FROM leases_v1() l),
        'holds', (SELECT coalesce(jsonb_agg(to_jsonb(h) || jsonb_build_object(
                             'until', readable_v1(h.until), 'created', readable_v1(h.created)) ORDER BY h.created), '[]')
                    FROM standing_holds h),
        'workers', (SELECT coalesce(jsonb_agg(w), '[]') FROM workers_v1() w),
        'history_days_ready', history_days_ready_v1(),
        'history_drops', (SELECT jsonb_build_object('waiting', e.waiting, 'late', e.late, 'at', readable_v1(d.at),
                                                    'actor', d.actor, 'login', d.login, 'seconds', seconds_since_v1(d.at))
                            FROM (SELECT count(*) AS waiting, count(*) FILTER (WHERE right(partition, 8) < to_char(
                                             (clock_timestamp() AT TIME ZONE 'UTC')::date - 2 - days, 'YYYYMMDD')) AS late
                                    FROM expired_history_v1() JOIN history_classes_v1() USING (parent)) e
                            LEFT JOIN history_drops d ON true),
        'schema', (SELECT jsonb_build_object('name', current_schema(), 'version', version) FROM worker_schema),
        'at', readable_v1(clock_timestamp()))
$$;
