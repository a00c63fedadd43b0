-- What the metrics endpoint shows of the queue, in one answer: each kind as in kinds_v1 with its expired leases, the
-- paused kinds with the start of their pause, the drains by scope, the workers by state, and the days of history ready.
CREATE OR REPLACE FUNCTION queue_gauges_v1() RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object(
        'kinds', (SELECT coalesce(jsonb_agg(to_jsonb(k)), '[]') FROM kinds_v1() k),
        'expired', (SELECT coalesce(jsonb_object_agg(kind, n), '{}')
                      FROM (SELECT kind, count(*) AS n FROM jobs
                             WHERE state = 'processing'
                               AND coalesce(lease_expires_at, '-infinity'::timestamptz) <= clock_timestamp()
                             GROUP BY kind) e),
        'paused', (SELECT coalesce(jsonb_object_agg(target, extract(epoch FROM created)), '{}')
                     FROM holds WHERE scope = 'kind' AND (until IS NULL OR until > clock_timestamp())),
        'holds', (SELECT coalesce(jsonb_object_agg(scope, n), '{}')
                    FROM (SELECT scope, count(*) AS n FROM holds
                           WHERE until IS NULL OR until > clock_timestamp() GROUP BY scope) h),
        'workers', (SELECT coalesce(jsonb_object_agg(state, n), '{}')
                      FROM (SELECT CASE WHEN beat_at > clock_timestamp() - interval '30 seconds' THEN state
                                        ELSE 'silent' END AS state, count(*) AS n
                              FROM workers GROUP BY 1) w),
        'history_days', history_days_ready_v1())
$$;
