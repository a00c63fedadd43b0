-- Moves the expiry of a lease to p_seconds from now, and returns false if the lease is lost.
-- It is lost if id, token or the state processing do not match. It commits synchronously, as beat_v1. Called by the control
-- thread.
CREATE OR REPLACE FUNCTION renew_v1(p_id bigint, p_token uuid, p_seconds double precision) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    SET LOCAL synchronous_commit = on;
    UPDATE jobs SET lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds)
     WHERE id = p_id AND lease_token = p_token AND state = 'processing';
    RETURN FOUND;
END $$;
