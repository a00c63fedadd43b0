-- Lists the holds that stand now, as one JSON object each: the oldest p_limit of them. An object has the columns of
-- the table holds, and its ramp (shown_hold_v1).
CREATE OR REPLACE FUNCTION list_holds_v1(p_limit integer) RETURNS SETOF jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT shown_hold_v1(h.id) FROM standing_holds h ORDER BY h.created, h.id LIMIT p_limit
$$;
