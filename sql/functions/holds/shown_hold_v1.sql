-- Shows a hold as a JSON object: its row, with a reason of at most 10,000 characters, and its ramp (shown_ramp_v1).
CREATE OR REPLACE FUNCTION shown_hold_v1(p_hold standing_holds) RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT to_jsonb(p_hold) || jsonb_build_object(
        'reason', left(p_hold.reason, 10000), 'until', readable_v1(p_hold.until), 'created', readable_v1(p_hold.created),
        'ramp', shown_ramp_v1(p_hold.id))
$$;
