-- processing → queued for whatever a worker holds besides the lease it knows of (null: it knows of none): leases whose
-- answer never reached it, however late they committed. Nothing of them was started; the attempts are given back.
-- Called by sweep_v1 for the worker that sweeps, and by unregister_v1.
CREATE OR REPLACE FUNCTION release_strays_v1(p_worker uuid, p_known uuid DEFAULT NULL) RETURNS SETOF jobs
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    UPDATE jobs
       SET state = 'queued', attempts = greatest(attempts, 1) - 1,
           leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
     WHERE state = 'processing' AND worker_id = p_worker AND lease_token IS DISTINCT FROM p_known
    RETURNING *
$$;
