-- settle_v1 in the handler's own transaction, waiting for nobody longer than a second: no interrupt falls into this wait, and the
-- lease runs meanwhile. Called by job.transaction(); what the handler wrote is rolled back then, and the job is released.
CREATE OR REPLACE FUNCTION settle_within_v1(
    p_ids bigint[], p_tokens uuid[], p_outcomes text[], p_delays double precision[], p_errors text[], p_retentions text[]
) RETURNS SETOF bigint
LANGUAGE sql SET search_path FROM CURRENT SET lock_timeout = '1s'
AS $$ SELECT * FROM settle_v1(p_ids, p_tokens, p_outcomes, p_delays, p_errors, p_retentions) $$;
