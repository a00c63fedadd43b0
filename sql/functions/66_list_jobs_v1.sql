-- Jobs in the order of their ids, one JSON object each; null for a state or a kind means any. The payload is text in
-- it: one that a client can't read (too deep, too many digits) must not keep it from reading the list.
CREATE OR REPLACE FUNCTION list_jobs_v1(p_state text, p_kind text, p_limit integer, p_after bigint DEFAULT NULL)
RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
BEGIN
    RETURN QUERY
    SELECT to_jsonb(j) || jsonb_build_object('payload', j.payload::text) FROM jobs j
     WHERE (p_state IS NULL OR j.state = p_state) AND (p_kind IS NULL OR j.kind = p_kind)
       AND (p_after IS NULL OR j.id > p_after)
     ORDER BY j.id LIMIT p_limit;
END $$;
