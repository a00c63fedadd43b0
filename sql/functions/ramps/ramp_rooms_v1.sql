-- Says how many jobs of each ramped kind a worker may lease now, and brings the ramps of these kinds forward.
-- One row for each of p_kinds whose pause has a ramp that has not stopped:
--   room   the most jobs; null: no limit
--   again  in how many seconds to look again, if the room is too small for all
-- It adds up how jobs ended (ramp_ends), passes a canary that ended well, and stops a ramp that failed (stop_ramp_v1).
-- Locks: the row of the ramp, until the lease is committed. So two leases never take the same room. It waits for no lock: while
-- somebody else leases from the ramp, the room is 0, and the next look comes soon.
-- Called by lease_v1, behind the gate, only while a kind is held.
CREATE OR REPLACE FUNCTION ramp_rooms_v1(p_worker uuid, p_kinds text[])
RETURNS TABLE (kind text, room integer, again double precision)
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now    timestamptz := clock_timestamp();
    v_ramp   ramps;
    v_id     bigint;
    v_ends   record;
    v_step   integer;
    v_most   bigint;
BEGIN
    FOR v_id, kind IN
        SELECT r.hold_id, r.kind FROM ramps r JOIN standing_holds h ON h.id = r.hold_id
         WHERE r.kind = ANY (p_kinds) AND r.stopped_at IS NULL
    LOOP
        room := 0;
        again := 0.05;
        SELECT * INTO v_ramp FROM ramps r WHERE r.hold_id = v_id AND r.stopped_at IS NULL FOR NO KEY UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN NEXT;
            CONTINUE;
        END IF;
        WITH gone AS (DELETE FROM ramp_ends e WHERE e.kind = v_ramp.kind RETURNING e.ok, e.bad)
        SELECT coalesce(sum(g.ok), 0) AS ok, coalesce(sum(g.bad), 0) AS bad INTO v_ends FROM gone g;
        v_ramp.ok := v_ramp.ok + v_ends.ok;
        v_ramp.bad := v_ramp.bad + v_ends.bad;
        IF v_ramp.passed_at IS NULL AND v_ramp.bad = 0 AND v_ramp.ok >= v_ramp.canary THEN
            v_ramp.passed_at := v_now;
            v_ramp.over_at := CASE WHEN v_ramp.steps IS NOT NULL
                                   THEN v_now + make_interval(secs => v_ramp.every * cardinality(v_ramp.steps))
                                   WHEN v_ramp.rate IS NULL THEN v_now END;
        END IF;
        -- The clock may have been set back since.
        v_ramp.tokens := least(greatest(v_ramp.rate, 1),
                               v_ramp.tokens + v_ramp.rate * greatest(seconds_since_v1(v_ramp.filled_at), 0));
        UPDATE ramps r
           SET ok = v_ramp.ok, bad = v_ramp.bad, passed_at = v_ramp.passed_at, over_at = v_ramp.over_at,
               tokens = coalesce(v_ramp.tokens, r.tokens), filled_at = v_now
         WHERE r.hold_id = v_id;
        IF v_ramp.bad > 0 AND (v_ramp.passed_at IS NULL
                               OR v_ramp.ok + v_ramp.bad >= 10 AND v_ramp.bad >= v_ramp.stop_at * (v_ramp.ok + v_ramp.bad)) THEN
            PERFORM stop_ramp_v1(v_id);
            RETURN NEXT;
            CONTINUE;
        END IF;
        room := NULL;
        again := 0.5;
        IF v_ramp.passed_at IS NULL THEN
            -- Counted from the rows, so that no slot can leak.
            SELECT greatest(v_ramp.canary - v_ramp.ok - count(*), 0) INTO room FROM jobs j
             WHERE j.state = 'processing' AND j.kind = v_ramp.kind AND j.leased_at >= v_ramp.began;
        ELSIF v_ramp.over_at <= v_now THEN
            RETURN NEXT;  -- only the sweep is left to do (end_expired_holds_v1)
            CONTINUE;
        ELSIF v_ramp.steps IS NOT NULL THEN
            v_step := v_ramp.steps[ramp_step_v1(v_ramp)];
            IF v_step < 100 THEN
                SELECT greatest(ceil(count(*) * v_step / 100.0), 1) INTO v_most
                  FROM workers w JOIN beats b ON b.worker_id = w.id
                 WHERE v_ramp.kind = ANY (w.kinds) AND lives_v1(b.beat_at);
                SELECT CASE WHEN count(DISTINCT j.worker_id) >= v_most THEN 0 END INTO room FROM jobs j
                 WHERE j.state = 'processing' AND j.kind = v_ramp.kind AND j.worker_id <> p_worker;
            END IF;
        END IF;
        IF v_ramp.rate IS NOT NULL AND coalesce(room, 1) > 0 THEN
            room := least(room, floor(v_ramp.tokens)::integer);
            again := greatest((1 - v_ramp.tokens + floor(v_ramp.tokens)) / v_ramp.rate, 0.01);
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
