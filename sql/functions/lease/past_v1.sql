-- Returns what a leased job has behind it: when it was added, in seconds since 1970, and the error of its last run.
-- No row if the lease is lost. lease_v1 leaves both out, because few handlers ask for them, and a column costs each job.
-- Called on the handlers' connection, in any transaction and with any settings of the handler.
CREATE OR REPLACE FUNCTION past_v1(p_id bigint, p_token uuid) RETURNS TABLE (created_at double precision, last_error text)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT date_part('epoch', j.created_at), j.last_error FROM jobs j
     WHERE j.id = p_id AND j.lease_token = p_token AND j.state || '' = 'processing'  -- as in settle_v1
$$;
