-- Records for the ramps of these kinds how jobs ended. The arrays run in parallel. A job counts only if it was leased under the
-- ramp that stands now. It inserts one row for each kind, so that a settle waits for nobody (ramp_rooms_v1 adds them up).
-- Called by settle_v1 and return_crashed_v1, only if one of the kinds has a ramp.
CREATE OR REPLACE FUNCTION ramp_ended_v1(p_kinds text[], p_leased_at timestamptz[], p_ok boolean) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT SET jit = off
AS $$
    INSERT INTO ramp_ends (kind, ok, bad)
    SELECT r.kind, CASE WHEN p_ok THEN count(*) ELSE 0 END, CASE WHEN p_ok THEN 0 ELSE count(*) END
      FROM unnest(p_kinds, p_leased_at) AS e (kind, leased_at) JOIN ramps r ON r.kind = e.kind AND e.leased_at >= r.began
     GROUP BY r.kind
$$;
