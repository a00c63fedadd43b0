-- processing → queued for whatever was leased under a token: the answer to that lease query never arrived, so
-- nothing of it was started. Gives the attempts back. Called by the main thread after it reconnected.
CREATE OR REPLACE FUNCTION release_token_v1(p_worker uuid, p_token uuid) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    v_count integer;
BEGIN
    UPDATE jobs
       SET state = 'queued', attempts = greatest(attempts, 1) - 1,
           leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
     WHERE state = 'processing' AND worker_id = p_worker AND lease_token = p_token;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;
