-- Returns the kinds that are paused now. p_ramped: also those whose pause has a ramp that has not stopped.
-- Called by start_v1 and lease_v1, behind the gate. A lease asks ramp_rooms_v1 what it may take of a ramped kind.
CREATE OR REPLACE FUNCTION held_kinds_v1(p_ramped boolean DEFAULT false) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN ARRAY(SELECT h.target FROM standing_holds h
                  WHERE h.scope = 'kind'
                    AND (p_ramped OR NOT EXISTS (SELECT FROM ramps r
                                                  WHERE r.hold_id = h.id AND r.kind = h.target AND r.stopped_at IS NULL)));
END $$;
