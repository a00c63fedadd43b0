-- Says how many jobs of each ramped kind a worker may lease now, and brings the ramps of these kinds forward (ramp_forward_v1).
-- One row for each of p_kinds whose pause has a ramp that has not stopped:
--   room   the most jobs; null: no limit
--   again  if the room is 0: in how many seconds to look again
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
    v_seen    ramps;
    v_forward record;
BEGIN
    FOR v_seen IN
        SELECT r.* FROM ramps r JOIN standing_holds h ON h.id = r.hold_id AND h.scope = 'kind' AND h.target = r.kind
         WHERE r.kind = ANY (p_kinds) AND r.stopped_at IS NULL
    LOOP
        kind := v_seen.kind;
        IF NOT EXISTS (SELECT FROM ramp_ends e WHERE e.ramp = v_seen.id AND e.id > v_seen.added)
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
        SELECT f.ramp, f.running INTO v_forward FROM ramp_forward_v1(v_seen.id) f;
        IF (v_forward.ramp).id IS NULL THEN
            room := 0;
            again := 0.01 + 0.02 * random();
        ELSE
            SELECT r.room, r.again INTO room, again FROM ramp_room_v1(v_forward.ramp, p_worker, v_forward.running) r;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
