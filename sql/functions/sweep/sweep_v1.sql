-- Takes back expired leases, releases leases whose answers were lost, brings ramps forward, and ends the holds that are over.
-- Each worker calls it every second or two, between two of its jobs. Two calls at once share the work (SKIP LOCKED).
-- Returns the jobs that it changed, with their outcome:
--   released         leases of this worker whose answers it never got: those of p_strays (release_strays_v1)
--   crashed, poison  expired leases of any kind and any worker, at most p_limit (expired_leases_v1)
-- The other arguments:
--   p_back      how many seconds back to look for expiries; null: at all leases. Further back lie dead index entries,
--               which pile up while somebody holds a snapshot. So a worker looks at all less often, the longer that takes.
--               0: return no expired lease. A worker passes it when it has just found the database again, or found that the
--               clock was set. The others have to find that, too, and need time to renew.
--   p_earliest  what the clock shows at least, in seconds since 1970, by the caller's own clock. No lease that ends later
--               counts as expired. So if somebody sets the database's clock ahead, a sweep before the caller knows of it
--               returns nothing.
--   p_kinds     with p_back null: leases of these kinds, which last p_seconds, are shortened if they end too late
--               (shorten_leases_v1)
--   p_delay     a job of an expired lease runs again this many seconds later at the earliest
--
-- A row that somebody has locked, or that the database refuses to change, keeps no other row from this.
CREATE OR REPLACE FUNCTION sweep_v1(
    p_worker uuid, p_back double precision DEFAULT NULL, p_strays uuid[] DEFAULT '{}', p_limit integer DEFAULT 2000,
    p_earliest double precision DEFAULT NULL, p_kinds text[] DEFAULT '{}', p_seconds double precision[] DEFAULT '{}',
    p_delay double precision DEFAULT 0
) RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE plpgsql SET search_path FROM CURRENT
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
    -- The lease does this too. But if the last job of a ramp failed, perhaps no worker of its kind is there to lease any more.
    PERFORM ramp_forward_v1(r.id) FROM ramps r
      WHERE r.stopped_at IS NULL AND EXISTS (SELECT FROM ramp_ends e WHERE e.ramp = r.id AND e.id > r.added);
    IF EXISTS (SELECT FROM holds WHERE until <= v_now)
       OR EXISTS (SELECT FROM ramps WHERE over_at <= v_now AND stopped_at IS NULL) THEN
        PERFORM end_expired_holds_v1();
    END IF;
    IF p_back = 0 THEN
        RETURN;
    END IF;
    IF p_back IS NULL THEN
        PERFORM shorten_leases_v1(v_now, p_kinds, p_seconds);
    END IF;
    v_ids := expired_leases_v1(v_since, v_now, p_limit);
    IF v_ids IS NOT NULL THEN
        PERFORM wake_v1();
        RETURN QUERY
        SELECT * FROM return_dead_v1(v_ids, 'the lease expired: its owner died, hung or lost the database', p_delay);
    END IF;
END $$;
