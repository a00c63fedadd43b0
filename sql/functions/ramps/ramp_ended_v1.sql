-- Records for the ramps of these kinds how jobs ended. The arrays run in parallel. A job counts only if it was leased under the
-- ramp that stands now, and if that ramp has not stopped. It inserts one row for each ramp, so that a settle waits for nobody
-- (ramp_rooms_v1 adds them up).
-- Called by settle_v1, only if one of the kinds has a ramp, and by return_crashed_v1.
CREATE OR REPLACE FUNCTION ramp_ended_v1(p_kinds text[], p_leased_at timestamptz[], p_ok boolean) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT SET jit = off
AS $$
    INSERT INTO ramp_ends (ramp, ok, bad)
    SELECT r.id, CASE WHEN p_ok THEN count(*) ELSE 0 END, CASE WHEN p_ok THEN 0 ELSE count(*) END
      FROM unnest(p_kinds, p_leased_at) AS e (kind, leased_at)
           JOIN ramps r ON r.kind = e.kind AND r.stopped_at IS NULL AND e.leased_at >= r.began
     GROUP BY r.id
$$;
