-- settle_v1, but waiting for nobody longer than a second. Called by both threads of a worker for what a turn didn't settle.
CREATE OR REPLACE FUNCTION settle_soon_v1(
    p_ids bigint[], p_tokens uuid[], p_outcomes text[], p_delays double precision[], p_errors text[], p_retentions text[]
) RETURNS SETOF bigint
LANGUAGE sql SET search_path FROM CURRENT SET lock_timeout = '1s'
AS $$ SELECT * FROM settle_v1(p_ids, p_tokens, p_outcomes, p_delays, p_errors, p_retentions) $$;
