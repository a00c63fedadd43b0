-- Settles jobs as settle_v1 does, in the handler's own transaction, and waits for a lock for at most one second.
-- The wait is short because no interrupt can end it, and the lease runs out meanwhile. After one second the call fails:
-- what the handler wrote is rolled back, and the job is released. Called by job.transaction(). The main thread of a worker
-- calls it, too, if settle_soon_v1 waited in vain and not for the row of a job.
CREATE OR REPLACE FUNCTION settle_within_v1(
    p_ids bigint[], p_tokens uuid[], p_outcomes text[], p_delays double precision[], p_errors text[], p_retentions text[]
) RETURNS SETOF bigint
LANGUAGE sql SET search_path FROM CURRENT SET lock_timeout = '1s'
AS $$ SELECT * FROM settle_v1(p_ids, p_tokens, p_outcomes, p_delays, p_errors, p_retentions) $$;
