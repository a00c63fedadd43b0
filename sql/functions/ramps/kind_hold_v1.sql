-- Returns the pause of a kind, as shown_hold_v1 shows it: with its ramp, if it has one. Null: the kind is not held.
-- Called by pause-kind and resume-kind, and by show_job_v1.
CREATE OR REPLACE FUNCTION kind_hold_v1(p_kind text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT shown_hold_v1(h.id) FROM standing_holds h WHERE h.scope = 'kind' AND h.target = p_kind
$$;
