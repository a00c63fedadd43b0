-- Says how many jobs of each ramped kind a worker may lease now, and brings the ramps of these kinds forward.
-- One row for each of p_kinds whose pause has a ramp that has not stopped:
--   room   the most jobs; null: no limit
--   again  if the room is 0: in how many seconds to look again
-- It adds up how jobs ended (ramp_ends), passes a canary that ended well, and stops a ramp that failed (stop_ramp_v1).
-- Locks: if there is room, the row of the ramp, until the lease is committed. So two leases never take the same room, and none
-- takes any after a stop. It waits for no lock: while somebody else leases from the ramp, the room is 0, and the next look comes
-- soon. A worker that finds no room changes and locks nothing. So many idle workers are in nobody's way.
-- Called by lease_v1, behind the gate, only while a kind is held.
CREATE OR REPLACE FUNCTION ramp_rooms_v1(p_worker uuid, p_kinds text[])
RETURNS TABLE (kind text, room integer, again double precision)
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now   timestamptz;
    v_seen  ramps;
    v_ramp  ramps;
    v_ends  record;
BEGIN
    FOR v_seen IN
        SELECT r.* FROM ramps r JOIN standing_holds h ON h.id = r.hold_id AND h.scope = 'kind' AND h.target = r.kind
         WHERE r.kind = ANY (p_kinds) AND r.stopped_at IS NULL
    LOOP
        kind := v_seen.kind;
        IF NOT EXISTS (SELECT FROM ramp_ends e WHERE e.ramp = v_seen.id)
           AND greatest(v_seen.began, v_seen.passed_at, v_seen.filled_at) <= clock_timestamp() THEN
            SELECT r.room, r.again INTO room, again
              FROM ramp_room_v1(v_seen, p_worker, CASE WHEN v_seen.passed_at IS NULL
                       THEN (SELECT count(*) FROM jobs j WHERE j.state = 'processing' AND j.kind = v_seen.kind
                                                           AND j.leased_at >= v_seen.began) END) r;
            IF room = 0 THEN
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;
        room := 0;
        again := 0.01 + 0.02 * random();
        SELECT * INTO v_ramp FROM ramps r WHERE r.id = v_seen.id AND r.stopped_at IS NULL FOR NO KEY UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN NEXT;
            CONTINUE;
        END IF;
        v_now := clock_timestamp();
        -- If the clock was set back, these times may lie in the future. Then the steps begin again.
        v_ramp.began := least(v_ramp.began, v_now);
        v_ramp.passed_at := CASE WHEN v_ramp.passed_at IS NOT NULL THEN least(v_ramp.passed_at, v_now) END;
        v_ramp.filled_at := least(v_ramp.filled_at, v_now);
        -- One statement, so that a job that ends meanwhile is either running or ended, and never neither of them.
        WITH gone AS (DELETE FROM ramp_ends e WHERE e.ramp = v_ramp.id RETURNING e.ok, e.bad)
        SELECT coalesce(sum(g.ok), 0) AS ok, coalesce(sum(g.bad), 0) AS bad,
               CASE WHEN v_ramp.passed_at IS NULL
                    THEN (SELECT count(*) FROM jobs j WHERE j.state = 'processing' AND j.kind = v_ramp.kind
                                                        AND j.leased_at >= v_ramp.began) END AS running
          INTO v_ends FROM gone g;
        v_ramp.ok := least(v_ramp.ok + v_ends.ok, 1000000000000000);
        v_ramp.bad := least(v_ramp.bad + v_ends.bad, 1000000000000000);
        IF v_ramp.passed_at IS NULL AND v_ramp.bad = 0 AND v_ramp.ok >= coalesce(v_ramp.canary, 0) THEN
            v_ramp.passed_at := v_now;
        END IF;
        v_ramp.over_at := CASE WHEN v_ramp.steps IS NOT NULL
                               THEN v_ramp.passed_at + make_interval(secs => v_ramp.every * cardinality(v_ramp.steps))
                               WHEN v_ramp.rate IS NULL THEN v_ramp.passed_at END;
        IF v_ramp IS DISTINCT FROM v_seen THEN
            UPDATE ramps r
               SET ok = v_ramp.ok, bad = v_ramp.bad, began = v_ramp.began, passed_at = v_ramp.passed_at,
                   over_at = v_ramp.over_at, filled_at = v_ramp.filled_at
             WHERE r.id = v_ramp.id;
        END IF;
        IF v_ramp.bad > 0 AND (v_ramp.passed_at IS NULL
                               OR v_ramp.ok + v_ramp.bad >= 10 AND v_ramp.bad >= v_ramp.stop_at * (v_ramp.ok + v_ramp.bad)) THEN
            PERFORM stop_ramp_v1(v_ramp.hold_id);
            RETURN NEXT;
            CONTINUE;
        END IF;
        SELECT r.room, r.again INTO room, again FROM ramp_room_v1(v_ramp, p_worker, v_ends.running) r;
        RETURN NEXT;
    END LOOP;
END $$;
