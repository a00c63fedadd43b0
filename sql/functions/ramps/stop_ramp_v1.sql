-- Stops a ramp because too many of its jobs failed: the kind is paused again, without an end, and an audit row says why.
-- If somebody is just changing the hold, it does nothing; the next lease or sweep tries again.
-- Called by ramp_forward_v1. It runs with the rights of the owner, so that a worker can change no other hold.
CREATE OR REPLACE FUNCTION stop_ramp_v1(p_hold bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_ramp :"schema".ramps;
    v_why  text;
BEGIN
    PERFORM FROM :"schema".holds WHERE id = p_hold FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO v_ramp FROM :"schema".ramps WHERE hold_id = p_hold AND stopped_at IS NULL AND bad > 0;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_why := CASE WHEN v_ramp.passed_at IS NULL
                  THEN pg_catalog.format('a canary job did not end ok (%s of %s ended, %s of them badly)',
                                         v_ramp.ok + v_ramp.bad, v_ramp.canary, v_ramp.bad)
                  ELSE pg_catalog.format('%s of %s runs did not end ok (%s %%; the limit is %s %%)', v_ramp.bad, v_ramp.ok + v_ramp.bad,
                                         pg_catalog.round(100::float8 * v_ramp.bad::float8 / (v_ramp.ok + v_ramp.bad)::float8),
                                         100::float8 * v_ramp.stop_at) END;
    UPDATE :"schema".ramps SET stopped_at = clock_timestamp(), stopped = v_why WHERE hold_id = p_hold;
    UPDATE :"schema".holds SET until = NULL WHERE id = p_hold;
    INSERT INTO :"schema".audit (actor, action, target, reason, detail)
    VALUES ('shithubd-worker', 'stop', pg_catalog.concat('kind ', v_ramp.kind), v_why,
            pg_catalog.jsonb_build_object('hold', p_hold, 'ok', v_ramp.ok, 'bad', v_ramp.bad));
END $$;
