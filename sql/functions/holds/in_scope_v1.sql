-- Lists the leases in the scope of a hold.
-- p_scope is fleet, host, unit, worker or kind; p_target names one of them, as in drain_v1. A lease whose worker has no row
-- counts to the host that leased_by names. The result has no payload, so that a login that reads metrics may call this.
-- It always reads the index of the leases, even if the planner's statistics suggest another plan, because an operator waits for
-- the answer. Called by barrier_v1 and leases_v1.
CREATE OR REPLACE FUNCTION in_scope_v1(p_scope text, p_target text) RETURNS TABLE (
    id bigint, kind text, leased_by text, leased_at timestamptz, lease_expires_at timestamptz, attempts integer, worker_id uuid)
LANGUAGE sql VOLATILE SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off
AS $$
    SELECT j.id, j.kind, j.leased_by, j.leased_at, j.lease_expires_at, j.attempts, j.worker_id
      FROM jobs j LEFT JOIN workers w ON w.id = j.worker_id
     WHERE j.state = 'processing'
       AND CASE p_scope
           WHEN 'fleet' THEN true
           WHEN 'kind' THEN j.kind = p_target
           WHEN 'host' THEN coalesce(w.host, regexp_replace(j.leased_by, ':[^:]*$', '')) = p_target
           WHEN 'unit' THEN w.unit = p_target
           WHEN 'worker' THEN j.worker_id::text = p_target
           END
$$;
