-- Holds the fleet (target ''), a host, a unit or a worker (its uuid): what is covered finishes its job and leases none.
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
