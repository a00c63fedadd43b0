-- Lists the workers, as one JSON object each.
-- silent is true if the worker's last beat does not show that it lives (lives_v1), or if it has none.
CREATE OR REPLACE FUNCTION workers_v1() RETURNS SETOF jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT to_jsonb(w) || jsonb_build_object(
               'state', coalesce(b.state, 'silent'),
               'job_id', b.job_id,
               'job_kind', b.job_kind,
               'leased_by', w.host || ':' || w.pid,
               'kinds', ARRAY(SELECT k.kind FROM unnest(w.kinds) AS k (kind) WHERE k.kind IS NOT NULL),
               'silent', NOT lives_v1(b.beat_at),
               'beat_seconds', round(seconds_since_v1(b.beat_at)::numeric, 1),
               'job_seconds', round(seconds_since_v1(b.job_since)::numeric, 1),
               'started_at', readable_v1(w.started_at),
               'beat_at', readable_v1(b.beat_at),
               'job_since', readable_v1(b.job_since))
      FROM workers w LEFT JOIN beats b ON b.worker_id = w.id ORDER BY w.host, w.unit, w.started_at
$$;
