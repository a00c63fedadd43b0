-- processing → queued for the leases that a worker doesn't know of: those of these tokens, whose answers never reached it,
-- however late they committed; or (null) all that it still holds. Nothing of them was started; the attempts are given
-- back. Called by sweep_v1 for the worker that sweeps, by the control thread for a lease that was sent ahead while a
-- handler turned slow, and by unregister_v1.
CREATE OR REPLACE FUNCTION release_strays_v1(p_worker uuid, p_tokens uuid[] DEFAULT NULL)
RETURNS TABLE (id bigint, kind text)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    UPDATE jobs j
       SET state = 'queued', attempts = greatest(attempts, 1) - 1, run_at = least(run_at, clock_timestamp()),
           leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
     WHERE state = 'processing' AND worker_id = p_worker AND (p_tokens IS NULL OR lease_token = ANY (p_tokens))
    RETURNING j.id, j.kind;
    IF FOUND THEN
        PERFORM wake_v1();
    END IF;
END $$;
