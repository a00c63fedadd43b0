-- Returns all that `shithubd-worker status` shows, counted at this moment, as a JSON object.
-- Its size has a limit: of the kinds it names the largest and the most urgent ones (named_kinds_v1), and more_kinds has the sums
-- of the others. It lists 1,000 leases, those first that may run now, 1,000 holds and 1,000 workers. leased, hold_count and
-- worker_states count all of them. kinds_v1, leases_v1, standing_holds and workers_v1 have the rest.
-- Counts may be capped (count_jobs_v1): capped names the figures that are only a lower bound, for each kind and for the sums.
-- running is how many workers have leased a job. A worker runs one job at a time, so no more than that run. It is 0 only if
-- nothing is leased.
-- history_drops says who last dropped all days of the history that were over, and how many wait now (waiting). late is how
-- many of those were over more than two days ago. There should be none: the timer runs each day, and a worker with the right
-- to drop looks every ten minutes. sweeper says which worker last looked for silent ones (sweep_silent_v1); at is null if nobody
-- has.
CREATE OR REPLACE FUNCTION status_v1() RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    WITH k AS MATERIALIZED (
        SELECT n.object, r.* FROM named_kinds_v1() AS n (object), jsonb_to_record(n.object)
            AS r (kind text, queued bigint, processing bigint, paused bigint, failed bigint, held bigint, retries bigint,
                  capped text[])
    ), l AS MATERIALIZED (
        SELECT l.object, l.object->'runs' AS runs, coalesce(l.object->>'worker', l.object->>'leased_by') AS owner, l.at
          FROM leases_v1() WITH ORDINALITY AS l (object, at)
    ), w AS MATERIALIZED (
        SELECT w.object, CASE WHEN (w.object->>'silent')::boolean THEN 'silent' ELSE w.object->>'state' END AS state, w.at
          FROM workers_v1() WITH ORDINALITY AS w (object, at)
    )
    SELECT jsonb_build_object(
        'states', (SELECT jsonb_build_object('queued', coalesce(sum(queued), 0), 'processing', coalesce(sum(processing), 0),
                                             'paused', coalesce(sum(paused), 0), 'failed', coalesce(sum(failed), 0)) FROM k),
        'running', (SELECT count(DISTINCT owner) FROM l),
        'leased', (SELECT count(*) FROM l),
        'held', (SELECT coalesce(sum(held), 0) FROM k),
        'retries', (SELECT coalesce(sum(retries), 0) FROM k),
        'capped', (SELECT coalesce(jsonb_agg(DISTINCT f.figure), '[]') FROM k, unnest(k.capped) AS f (figure)),
        'kinds', (SELECT coalesce(jsonb_agg(object ORDER BY kind), '[]') FROM k WHERE kind IS NOT NULL),
        'more_kinds', (SELECT object FROM k WHERE kind IS NULL),
        'leases', (SELECT coalesce(jsonb_agg(s.object ORDER BY s.at), '[]')
                     FROM (SELECT * FROM l ORDER BY l.runs = 'false', l.at LIMIT 1000) s),
        'holds', (SELECT coalesce(jsonb_agg(s.object ORDER BY s.created), '[]')
                    FROM (SELECT h.created, shown_hold_v1(h.id) AS object
                            FROM standing_holds h ORDER BY h.mode, h.created LIMIT 1000) s),
        'hold_count', (SELECT count(*) FROM standing_holds),
        'workers', (SELECT coalesce(jsonb_agg(s.object || jsonb_build_object(
                               'kinds', jsonb_path_query_array(s.object, '$.kinds[0 to 49]'),
                               'kind_count', jsonb_array_length(s.object->'kinds')) ORDER BY s.at), '[]')
                      FROM (SELECT * FROM w ORDER BY w.state <> 'silent', w.at LIMIT 1000) s),
        'worker_states', (SELECT coalesce(jsonb_object_agg(s.state, s.workers), '{}')
                            FROM (SELECT state, count(*) AS workers FROM w GROUP BY state) s),
        'history_days_ready', history_days_ready_v1(),
        'history_drops', (SELECT jsonb_build_object('waiting', e.waiting, 'late', e.late, 'at', readable_v1(d.at),
                                                    'actor', d.actor, 'login', d.login, 'seconds', seconds_since_v1(d.at))
                            FROM (SELECT count(*) AS waiting, count(*) FILTER (WHERE right(partition, 8) < to_char(
                                             (clock_timestamp() AT TIME ZONE 'UTC')::date - 2 - days, 'YYYYMMDD')) AS late
                                    FROM expired_history_v1() JOIN history_classes_v1() USING (parent)) e
                            LEFT JOIN history_drops d ON true),
        'sweeper', (SELECT jsonb_build_object('at', CASE WHEN isfinite(s.swept_at) THEN readable_v1(s.swept_at) END,
                                              'by', s.swept_by, 'seconds', seconds_since_v1(s.swept_at)) FROM sweeper s),
        'schema', (SELECT jsonb_build_object('name', current_schema(), 'version', version) FROM worker_schema),
        'at', readable_v1(clock_timestamp()))
$$;
