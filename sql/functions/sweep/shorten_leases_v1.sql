-- Shortens leases that end too late, because the clock was set back while their owner is dead.
-- A lease of a kind in p_kinds lasts p_seconds, so it cannot rightly end later than that from p_now (5 s are allowed on
-- top). If it does, its end is brought forward to that, unless the last beat of its owner vouches for it. Such a beat is
-- from the last day, and at most 30 s ahead. Then the owner wrote the lease by the clock as it is now. It may live, be of another
-- release in which leases last longer, and be cut off for the moment. A beat further ahead shows that the clock was set back
-- since. An owner that was silent for a day, or has no beat, is dead (see forget_workers_v1).
-- It works one by one: there are few such leases, and one that is locked or refused must not keep the others from it.
-- Called by sweep_v1.
CREATE OR REPLACE FUNCTION shorten_leases_v1(p_now timestamptz, p_kinds text[], p_seconds double precision[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
    v_late record;
BEGIN
    FOR v_late IN
        SELECT j.id, p_now + make_interval(secs => k.seconds) AS expires
          FROM unnest(p_kinds, p_seconds) k (kind, seconds), jobs j
         WHERE j.state = 'processing' AND j.kind = k.kind
           AND coalesce(j.lease_expires_at, '-infinity'::timestamptz) > p_now + make_interval(secs => k.seconds + 5)
           AND NOT EXISTS (SELECT FROM beats b
                            WHERE b.worker_id = j.worker_id AND seconds_since_v1(b.beat_at) BETWEEN -30 AND 86400)
           FOR UPDATE OF j SKIP LOCKED
    LOOP
        BEGIN
            UPDATE jobs SET lease_expires_at = v_late.expires WHERE id = v_late.id;
        EXCEPTION
            WHEN insufficient_resources THEN  -- the whole class 53
                RAISE;
            WHEN OTHERS THEN
                RAISE WARNING 'the database refuses to shorten the lease of job %: %', v_late.id, SQLERRM;
        END;
    END LOOP;
END $$;
