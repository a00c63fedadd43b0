-- Removes the ramp of a hold, if it has one, and what was recorded for ramps that are gone.
-- Called by the functions that set or end a pause. They have locked the hold and run with the rights of the owner. It waits for
-- a lease that is being taken from the ramp now.
CREATE OR REPLACE FUNCTION end_ramp_v1(p_hold bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM :"schema".ramps WHERE hold_id = p_hold;
    DELETE FROM :"schema".ramp_ends WHERE ramp NOT IN (SELECT r.id FROM :"schema".ramps r);
END $$;
