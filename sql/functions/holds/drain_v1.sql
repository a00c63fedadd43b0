-- Drains the fleet, a host, a unit or a worker: each worker in that scope finishes its job and leases no other.
-- p_target is '' for the fleet, else the name of the host or the unit, or the worker's uuid. The drain lasts until p_until;
-- null or infinity means until resume_v1. Draining the same scope again updates the drain.
-- Returns the hold. Raises invalid_parameter_value for another scope, or if p_until has passed.
-- After the commit call barrier_v1, in a transaction of its own: when it returns true, the drain is certain.
CREATE OR REPLACE FUNCTION drain_v1(
    p_scope text DEFAULT 'fleet', p_target text DEFAULT '', p_reason text DEFAULT NULL,
    p_until timestamptz DEFAULT NULL, p_actor text DEFAULT session_user
) RETURNS holds
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    IF p_scope NOT IN ('fleet', 'host', 'unit', 'worker') THEN
        RAISE EXCEPTION 'a drain is of the fleet, a host, a unit or a worker, not of %', p_scope
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN hold_v1(p_scope, p_target, p_reason, p_until, p_actor);
END $$;
