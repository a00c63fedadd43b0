-- Puts right what nobody else will, every second or two in each worker, between two of its jobs; two at once share the
-- work (SKIP LOCKED). Returns the jobs that it touched:
--   released         leases of this worker whose answers it never got: those of p_strays (release_strays_v1)
--   crashed, poison  leases that expired, of any kind and any worker, at most p_limit; one without an expiry counts as
--                    expired. Not one that its owner says to have finished, in a beat of the last 10 s: somebody had
--                    locked the row, and it is about to be settled. Looks p_back seconds back (null: from the first on):
--                    behind lie dead index entries, which pile up while somebody holds a snapshot, so the worker looks
--                    at all of them less often the longer that takes. Not at all with p_back 0: a worker that has just found the database again, or that its
--                    clock was set, gives the others, who have to find that too, the time to renew.
-- p_earliest is what this clock shows at least, in seconds since 1970, as the caller's own clock has it: no lease
-- that ends later counts as expired. If somebody sets this clock ahead, the sweep that comes before the caller knows returns nothing.
-- With p_back null, leases of the kinds p_kinds, which last p_seconds, are shortened if they end too late (shorten_leases_v1).
-- Holds that reached their end are taken away, and what they had marked paused goes back into the queue.
-- One row that somebody has locked, or that the database refuses to change, keeps no other from any of this.
CREATE OR REPLACE FUNCTION sweep_v1(
    p_worker uuid, p_back double precision DEFAULT NULL, p_strays uuid[] DEFAULT '{}', p_limit integer DEFAULT 2000,
    p_earliest double precision DEFAULT NULL, p_kinds text[] DEFAULT '{}', p_seconds double precision[] DEFAULT '{}'
) RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now   timestamptz := least(clock_timestamp(), to_timestamp(p_earliest));
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
    IF p_back IS NULL THEN
        PERFORM shorten_leases_v1(v_now, p_kinds, p_seconds);
    END IF;
    SELECT array_agg(e.id) INTO v_ids
      FROM (SELECT j.id FROM jobs j
             WHERE j.state = 'processing'
               AND coalesce(j.lease_expires_at, '-infinity'::timestamptz) >= v_since
               AND coalesce(j.lease_expires_at, '-infinity'::timestamptz) <= v_now
               AND NOT EXISTS (SELECT FROM beats b WHERE b.worker_id = j.worker_id AND j.id = ANY (b.unsettled)
                                 AND abs(seconds_since_v1(b.beat_at)) < 10)
             ORDER BY coalesce(j.lease_expires_at, '-infinity'::timestamptz)
             LIMIT p_limit
               FOR UPDATE SKIP LOCKED) e;
    IF v_ids IS NOT NULL THEN
        PERFORM wake_v1();
        RETURN QUERY
        SELECT * FROM return_dead_v1(v_ids, 'the lease expired: its owner died, hung or lost the database');
    END IF;
END $$;
