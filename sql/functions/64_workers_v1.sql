-- The workers, one JSON object each; `silent` if one didn't beat for 30 s.
CREATE OR REPLACE FUNCTION workers_v1() RETURNS SETOF jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT to_jsonb(w) || to_jsonb(b) - 'worker_id' || jsonb_build_object(
               'leased_by', w.host || ':' || w.pid,
               'silent', b.beat_at <= clock_timestamp() - interval '30 seconds',
               'beat_seconds', round(extract(epoch FROM clock_timestamp() - b.beat_at), 1),
               'job_seconds', round(extract(epoch FROM clock_timestamp() - b.job_since), 1))
      FROM workers w JOIN beats b ON b.worker_id = w.id ORDER BY w.host, w.unit, w.started_at
$$;
