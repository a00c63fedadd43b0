-- Lists the workers, as one JSON object each.
-- silent is true if the worker's last beat does not show that it lives (lives_v1), or if it has none. leases is how many jobs
-- it has leased; it runs at most one of them. job_id, job_kind and job_since are null unless it still has the lease of the job
-- that its last beat named. gives_up_seconds is in how many seconds it has given up its run, if it gives no sign of life until
-- then (silent_workers_v1). Then a sweep may take its jobs. Null: it promised nothing.
CREATE OR REPLACE FUNCTION workers_v1() RETURNS SETOF jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT to_jsonb(w) || jsonb_build_object(
               'state', coalesce(b.state, 'silent'),
               'leases', coalesce(l.leases, 0),
               'job_id', r.job_id,
               'job_kind', CASE WHEN r.job_id IS NOT NULL THEN b.job_kind END,
               'leased_by', w.host || ':' || w.pid,
               'kinds', ARRAY(SELECT k.kind FROM unnest(w.kinds) AS k (kind) WHERE k.kind IS NOT NULL),
               'silent', NOT lives_v1(b.beat_at),
               'gives_up_seconds', round((w.gives_up - least(seconds_since_v1(b.beat_at), seconds_since_v1(l.last)))::numeric, 1),
               'beat_seconds', round(seconds_since_v1(b.beat_at)::numeric, 1),
               'job_seconds', CASE WHEN r.job_id IS NOT NULL THEN round(seconds_since_v1(b.job_since)::numeric, 1) END,
               'started_at', readable_v1(w.started_at),
               'beat_at', readable_v1(b.beat_at),
               'job_since', CASE WHEN r.job_id IS NOT NULL THEN readable_v1(b.job_since) END)
      FROM workers w LEFT JOIN beats b ON b.worker_id = w.id
           LEFT JOIN running_v1() r ON r.worker_id = w.id
           LEFT JOIN (SELECT j.worker_id, count(*) AS leases, max(j.leased_at) FILTER (WHERE isfinite(j.leased_at)) AS last
                        FROM in_scope_v1('fleet', '') j GROUP BY 1) l ON l.worker_id = w.id
     ORDER BY w.host, w.unit, w.started_at
$$;
