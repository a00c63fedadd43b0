-- Locks expired leases, at most p_limit, and returns the ids of their jobs. It skips those that somebody has locked.
-- They expired between p_since and p_now. A lease without an expiry counts as expired. A lease does not count if a beat of the
-- last 15 s says that its owner has finished the job. Then somebody had locked the row, and the owner is about to settle it.
-- Called by sweep_v1 and sweep_leases_v1.
CREATE OR REPLACE FUNCTION expired_leases_v1(p_since timestamptz, p_now timestamptz, p_limit integer) RETURNS bigint[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
BEGIN
    RETURN (SELECT array_agg(e.id)
      FROM (SELECT j.id FROM :"schema".jobs j
             WHERE j.state = 'processing'
               AND coalesce(j.lease_expires_at, '-infinity'::timestamptz) >= p_since
               AND coalesce(j.lease_expires_at, '-infinity'::timestamptz) <= p_now
               AND NOT EXISTS (SELECT FROM :"schema".beats b WHERE b.worker_id = j.worker_id AND j.id = ANY (b.unsettled)
                                 AND abs(:"schema".seconds_since_v1(b.beat_at)) < 15)
             ORDER BY coalesce(j.lease_expires_at, '-infinity'::timestamptz)
             LIMIT p_limit
               FOR UPDATE SKIP LOCKED) e);
END $$;
