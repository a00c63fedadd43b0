-- The payload of a leased job that lease_v1 left out of its answer; null if the lease is lost. Called by the main thread
-- when the job's turn comes.
CREATE OR REPLACE FUNCTION payload_v1(p_id bigint, p_token uuid) RETURNS text
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN (SELECT payload::text FROM jobs WHERE id = p_id AND lease_token = p_token AND state || '' = 'processing');
END $$;
