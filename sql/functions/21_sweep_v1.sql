-- Puts right what nobody else will, every second or two in each worker, between two of its jobs; two at once share the
-- work (SKIP LOCKED). Returns the jobs that it touched:
--   released         leases of this worker whose answers it never got: those of p_strays (release_strays_v1)
--   crashed, poison  leases that expired, of any kind and any worker, at most p_limit; one without an expiry counts as
--                    expired. Looks p_back seconds back (null: from the first on): behind lie dead index entries, which
--                    pile up while somebody holds a snapshot, so the worker looks at all of them less often the longer
--                    that takes. Not at all with p_back 0: a worker that has just found the database again gives the
--                    others, who lost it too, the time to renew.
-- Holds that reached their end are taken away, and what they had marked paused goes back into the queue.
CREATE OR REPLACE FUNCTION sweep_v1(
    p_worker uuid, p_back double precision DEFAULT NULL, p_strays uuid[] DEFAULT '{}', p_limit integer DEFAULT 2000
) RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now   timestamptz := clock_timestamp();
    v_since timestamptz := coalesce(v_now - make_interval(secs => p_back), '-infinity');
    v_ids   bigint[];
BEGIN
    IF p_strays <> '{}' THEN
        RETURN QUERY SELECT s.id, s.kind, 'released' FROM release_strays_v1(p_worker, p_strays) s;
    END IF;
    IF EXISTS (SELECT FROM holds WHERE until <= v_now) THEN
        PERFORM end_expired_holds_v1();
    END IF;
    IF p_back = 0 THEN
        RETURN;
    END IF;
    SELECT array_agg(e.id) INTO v_ids
      FROM (SELECT j.id FROM jobs j
             WHERE j.state = 'processing'
               AND coalesce(j.lease_expires_at, '-infinity'::timestamptz) >= v_since
               AND coalesce(j.lease_expires_at, '-infinity'::timestamptz) <= v_now
             ORDER BY coalesce(j.lease_expires_at, '-infinity'::timestamptz)
             LIMIT p_limit
               FOR UPDATE SKIP LOCKED) e;
    IF v_ids IS NOT NULL THEN
        PERFORM wake_v1();
        RETURN QUERY
        SELECT * FROM return_dead_v1(v_ids, 'the lease expired: its owner died, hung or lost the database');
    END IF;
END $$;
