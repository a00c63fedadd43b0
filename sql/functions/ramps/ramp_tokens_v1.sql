-- Returns how many leases the rate of a ramp allows now: as many as a second brings, at least one, can be saved up.
-- Null: the ramp has no rate.
-- Called by ramp_room_v1 and ramp_taken_v1.
CREATE OR REPLACE FUNCTION ramp_tokens_v1(p_ramp ramps) RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN CASE WHEN p_ramp.rate IS NOT NULL
                THEN least(greatest(p_ramp.rate, 1),
                           p_ramp.tokens + p_ramp.rate * greatest(seconds_since_v1(p_ramp.filled_at), 0)) END;
END $$;
