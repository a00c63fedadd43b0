-- Records for the ramps of these kinds how jobs ended. The arrays run in parallel. A job counts only if it was leased under the
-- ramp that stands now, and if that ramp has not stopped. It inserts one row for each ramp, so that a settle waits for nobody
-- (ramp_forward_v1 adds them up). It looks by the kind: the dead versions of other ramps cost nothing.
-- Called by settle_v1, only while a kind is held, and by return_crashed_v1.
CREATE OR REPLACE FUNCTION ramp_ended_v1(p_kinds text[], p_leased_at timestamptz[], p_ok boolean) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
    INSERT INTO :"schema".ramp_ends (ramp, ok, bad)
    SELECT r.id, CASE WHEN p_ok THEN count(*) ELSE 0::bigint END, CASE WHEN p_ok THEN 0::bigint ELSE count(*) END
      FROM ROWS FROM (pg_catalog.unnest(p_kinds), pg_catalog.unnest(p_leased_at)) AS e (kind, leased_at)
           JOIN :"schema".ramps r ON r.kind = e.kind AND r.stopped_at IS NULL AND e.leased_at >= r.began
     GROUP BY r.id
$$;
