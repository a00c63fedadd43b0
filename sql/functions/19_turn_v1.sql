-- One turn of a worker's loop in one transaction and one round trip: settles what is finished, leases what is next.
-- Returns what lease_v1 does, and before it a row with an id alone for each settle that was refused (settle_v1).
-- Called by the main thread of a worker, also ahead, while handlers run: it is one statement that ends its own
-- transaction, whoever reads its answer when.
CREATE OR REPLACE FUNCTION turn_v1(
    p_ids bigint[], p_tokens uuid[], p_outcomes text[], p_delays double precision[], p_errors text[], p_retentions text[],
    p_worker uuid, p_token uuid,
    p_kinds text[], p_low smallint[], p_high smallint[], p_since double precision[], p_after bigint[],
    p_seconds double precision[], p_most integer[]
) RETURNS TABLE (id bigint, "range" integer, payload text, attempts integer, max_attempts integer, crashes integer,
                 priority smallint, run_at double precision)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    IF p_ids <> '{}' THEN
        RETURN QUERY
        SELECT s, NULL::integer, NULL::text, NULL::integer, NULL::integer, NULL::integer, NULL::smallint, NULL::double precision
          FROM settle_v1(p_ids, p_tokens, p_outcomes, p_delays, p_errors, p_retentions) s;
    ELSE
        SET LOCAL synchronous_commit = off;  -- a lease that a crash of the database loses is leased again
    END IF;
    RETURN QUERY SELECT * FROM lease_v1(p_worker, p_token, p_kinds, p_low, p_high, p_since, p_after, p_seconds, p_most);
END $$;
