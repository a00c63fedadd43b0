-- Returns the kinds that are paused now.
-- Called by lease_v1 and start_v1, behind the gate.
CREATE OR REPLACE FUNCTION held_kinds_v1() RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN ARRAY(SELECT target FROM standing_holds WHERE scope = 'kind');
END $$;
