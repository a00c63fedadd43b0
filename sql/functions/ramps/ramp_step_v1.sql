-- Returns at which of its steps a ramp is now, from 1. Null: it has no steps, or its canary has not passed.
-- Called by ramp_room_v1 and shown_ramp_v1.
CREATE OR REPLACE FUNCTION ramp_step_v1(p_ramp ramps) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN CASE WHEN p_ramp.passed_at IS NOT NULL
                THEN least(floor(greatest(seconds_since_v1(p_ramp.passed_at), 0) / p_ramp.every) + 1, cardinality(p_ramp.steps)) END;
END $$;
