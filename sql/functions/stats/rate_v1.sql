-- Returns how many jobs of a kind come to their end per second, and in which window (figures_v1, pace): ok, failed and poison, in the
-- shortest window that has any. No row: none ended in the last 24 hours.
CREATE OR REPLACE FUNCTION rate_v1(p_kind text) RETURNS TABLE (per_second double precision, "window" text)
LANGUAGE sql VOLATILE SET search_path FROM CURRENT
AS $$
    SELECT f.pace, f."window"
      FROM figures_v1(p_kind) f WHERE f.left_queue > 0 ORDER BY f.place LIMIT 1
$$;
