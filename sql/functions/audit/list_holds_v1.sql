-- Lists the holds that stand now, as one JSON object each: the oldest p_limit of them. An object has the columns of
-- the table holds. The reason is cut at 10,000 characters.
CREATE OR REPLACE FUNCTION list_holds_v1(p_limit integer) RETURNS SETOF jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT to_jsonb(h) || jsonb_build_object('reason', left(h.reason, 10000), 'until', readable_v1(h.until),
                                             'created', readable_v1(h.created), 'ramp', shown_ramp_v1(h.id))
      FROM standing_holds h ORDER BY h.created, h.id LIMIT p_limit
$$;
