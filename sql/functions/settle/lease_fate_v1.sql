-- Tells what became of a lease after a settle or COMMIT whose answer was lost.
-- Returns 'leased' if the lease stands and nothing was written, else the outcome that ended it. The result is null if nobody
-- recorded an outcome (an UPDATE by hand, or a kind without a history).
-- Called by either thread of a worker after it reconnected.
CREATE OR REPLACE FUNCTION lease_fate_v1(p_id bigint, p_token uuid) RETURNS text
LANGUAGE sql VOLATILE SET search_path FROM CURRENT
AS $$
    SELECT coalesce(
        (SELECT 'leased' FROM jobs WHERE id = p_id AND lease_token = p_token AND state = 'processing'),
        (SELECT outcome FROM job_history WHERE id = p_id AND lease_token = p_token ORDER BY finished_at LIMIT 1))
$$;
