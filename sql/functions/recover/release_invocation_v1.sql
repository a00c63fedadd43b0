-- Takes back the leases of the dead process that systemd knows by an invocation id, as release_worker_v1 does.
-- Called by release-dead (ExecStopPost=).
CREATE OR REPLACE FUNCTION release_invocation_v1(p_invocation_id text, p_error text)
RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT r.* FROM workers w, LATERAL release_worker_v1(w.id, p_error) r WHERE w.invocation_id = p_invocation_id
$$;
