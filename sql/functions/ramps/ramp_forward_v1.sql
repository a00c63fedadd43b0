-- Brings a ramp forward: it adds up how jobs ended (ramp_ends), passes a canary that ended well, and stops a ramp that failed
-- (stop_ramp_v1). Returns two columns:
--   ramp     the ramp as it is now. Null: it has stopped or is gone, or somebody else has locked it.
--   running  during the canary, how many jobs of the kind run that were leased under the ramp
-- Locks: the row of the ramp, until the transaction ends. It waits for no lock.
--
-- While somebody holds a snapshot, vacuum cannot remove the rows that were added up. So it reads no rows from before the point
-- "added". After the canary that point lies 1,000 rows behind the last row. A row that is committed later still counts for
-- nobody. Then one end is missing in a ratio of many.
-- Called by ramp_rooms_v1 and sweep_v1.
CREATE OR REPLACE FUNCTION ramp_forward_v1(p_id bigint, OUT ramp ramps, OUT running bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    v_now  timestamptz;
    v_was  ramps;
    v_ramp ramps;
    v_ends record;
BEGIN
    SELECT * INTO v_was FROM ramps r WHERE r.id = p_id AND r.stopped_at IS NULL FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_ramp := v_was;
    v_now := clock_timestamp();
    -- After many ends, ten times a second are enough. Each change of the row leaves a dead one, over which all leases must walk
    -- while somebody holds a snapshot. A rate changes the row at each lease anyway.
    IF v_ramp.rate IS NULL AND v_ramp.passed_at IS NOT NULL AND v_ramp.ok + v_ramp.bad >= 1000
       AND v_ramp.filled_at BETWEEN v_now - interval '0.1 s' AND v_now THEN
        ramp := v_ramp;
        RETURN;
    END IF;
    -- If the clock was set back, these times may lie in the future. Then the steps begin again.
    v_ramp.began := least(v_ramp.began, v_now);
    v_ramp.passed_at := CASE WHEN v_ramp.passed_at IS NOT NULL THEN least(v_ramp.passed_at, v_now) END;
    v_ramp.filled_at := least(v_ramp.filled_at, v_now);
    -- One statement, so that a job that ends meanwhile is either running or ended, and never neither of them.
    WITH gone AS (DELETE FROM ramp_ends e WHERE e.ramp = v_ramp.id AND e.id > v_ramp.added RETURNING e.id, e.ok, e.bad)
    SELECT coalesce(sum(g.ok), 0) AS ok, coalesce(sum(g.bad), 0) AS bad, max(g.id) AS last,
           CASE WHEN v_ramp.passed_at IS NULL
                THEN (SELECT count(*) FROM jobs j WHERE j.state = 'processing' AND j.kind = v_ramp.kind
                                                    AND j.leased_at >= v_ramp.began) END AS running
      INTO v_ends FROM gone g;
    running := v_ends.running;
    v_ramp.ok := least(v_ramp.ok + v_ends.ok, 1000000000000000);
    v_ramp.bad := least(v_ramp.bad + v_ends.bad, 1000000000000000);
    IF v_ramp.passed_at IS NULL AND v_ramp.bad = 0 AND v_ramp.ok >= coalesce(v_ramp.canary, 0) THEN
        v_ramp.passed_at := v_now;
    END IF;
    IF v_ramp.passed_at IS NOT NULL THEN
        v_ramp.added := greatest(v_ramp.added, greatest(v_ends.last, 1000) - 1000);
    END IF;
    v_ramp.over_at := CASE WHEN v_ramp.steps IS NOT NULL
                           THEN v_ramp.passed_at + make_interval(secs => v_ramp.every * cardinality(v_ramp.steps))
                           WHEN v_ramp.rate IS NULL THEN v_ramp.passed_at END;
    IF v_ramp IS DISTINCT FROM v_was THEN
        v_ramp.tokens := coalesce(ramp_tokens_v1(v_ramp), v_ramp.tokens);
        v_ramp.filled_at := v_now;
        UPDATE ramps r
           SET ok = v_ramp.ok, bad = v_ramp.bad, began = v_ramp.began, passed_at = v_ramp.passed_at,
               over_at = v_ramp.over_at, tokens = v_ramp.tokens, filled_at = v_ramp.filled_at, added = v_ramp.added
         WHERE r.id = v_ramp.id;
    END IF;
    IF v_ramp.bad > 0 AND (v_ramp.passed_at IS NULL
                           OR v_ramp.ok + v_ramp.bad >= 10 AND v_ramp.bad >= v_ramp.stop_at * (v_ramp.ok + v_ramp.bad)) THEN
        PERFORM stop_ramp_v1(v_ramp.hold_id);
        RETURN;
    END IF;
    ramp := v_ramp;
END $$;
