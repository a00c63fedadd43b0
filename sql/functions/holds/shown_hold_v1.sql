-- Shows a hold that stands as a JSON object: its row, with a reason of at most 10,000 characters, and its ramp (shown_ramp_v1).
CREATE OR REPLACE FUNCTION shown_hold_v1(p_hold bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT to_jsonb(h) || jsonb_build_object(
        'reason', left(h.reason, 10000), 'until', readable_v1(h.until), 'created', readable_v1(h.created),
        'ramp', shown_ramp_v1(h.id))
      FROM standing_holds h WHERE h.id = p_hold
$$;
