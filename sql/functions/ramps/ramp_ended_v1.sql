-- Records for the ramps of their kinds how jobs ended. p_ended has the kind and the leased_at of each job. A job counts only if it
-- was leased under the ramp that stands now, and if that ramp has not stopped. It inserts one row for each ramp, so that a settle
-- waits for nobody (ramp_forward_v1 adds them up). It looks by the kind: the dead versions of other ramps cost nothing.
-- Called by settle_v1, for jobs of kinds that are held, and by return_crashed_v1.
CREATE OR REPLACE FUNCTION ramp_ended_v1(p_ended json, p_ok boolean) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
    INSERT INTO :"schema".ramp_ends (ramp, ok, bad)
    SELECT r.id, CASE WHEN p_ok THEN count(*) ELSE 0::bigint END, CASE WHEN p_ok THEN 0::bigint ELSE count(*) END
      FROM pg_catalog.json_to_recordset(p_ended) AS e (kind text, leased_at timestamptz)
           JOIN :"schema".ramps r ON r.kind = e.kind AND r.stopped_at IS NULL AND e.leased_at >= r.began
     GROUP BY r.id
$$;
