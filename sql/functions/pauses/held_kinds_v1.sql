-- Returns the kinds that are paused now, without those whose pause has a ramp: ramp_rooms_v1 says what the lease may take of
-- them. A ramp that has stopped does not count.
-- Called by lease_v1 and start_v1, behind the gate.
CREATE OR REPLACE FUNCTION held_kinds_v1() RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN ARRAY(SELECT h.target FROM standing_holds h
                  WHERE h.scope = 'kind' AND NOT EXISTS (SELECT FROM ramps r WHERE r.hold_id = h.id AND r.stopped_at IS NULL));
END $$;
