-- Explains the pause of a job's kind as one check of explain_job_v1. Beside check, ok and since:
--   hold   the pause with its ramp (shown_hold_v1); null: there is none
--   why    in the way is: paused; stopped (its ramp); or what its ramp waits for now: canary, steps, rate
--   room   how many jobs the ramp lets through now; null: no limit, or no ramp
--   again  if it lets none through: in how many seconds a worker looks again
-- p_ahead jobs come before this one and take the room first. p_worker is the worker that could lease it.
-- It looks at the ramp as ramp_forward_v1 would bring it forward, and changes nothing. tests/postgres/test_explain_life.py compares it with the
-- lease.
CREATE OR REPLACE FUNCTION hold_check_v1(p_kind text, p_ahead bigint, p_worker uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    v_now     timestamptz := clock_timestamp();
    v_hold    jsonb := kind_hold_v1(p_kind);
    v_ramp    ramps;
    v_room    integer;
    v_again   double precision;
    v_running bigint;
    v_why     text := 'paused';
BEGIN
    SELECT r.* INTO v_ramp FROM ramps r WHERE r.hold_id = (v_hold->>'id')::bigint AND r.kind = p_kind;
    IF v_ramp.id IS NOT NULL THEN
        v_ramp.ok := (v_hold->'ramp'->>'ok')::bigint;  -- with those that nobody has added up yet
        v_ramp.bad := (v_hold->'ramp'->>'bad')::bigint;
        v_ramp.began := least(v_ramp.began, v_now);
        v_ramp.passed_at := CASE WHEN v_ramp.passed_at IS NOT NULL THEN least(v_ramp.passed_at, v_now)
                                 WHEN v_ramp.bad = 0 AND v_ramp.ok >= v_ramp.canary THEN v_now END;
        v_ramp.filled_at := least(v_ramp.filled_at, v_now);
        IF v_ramp.steps IS NULL AND v_ramp.rate IS NULL THEN
            v_ramp.over_at := v_ramp.passed_at;
        END IF;
        IF v_ramp.stopped_at IS NOT NULL
           OR v_ramp.bad > 0 AND (v_ramp.passed_at IS NULL OR v_ramp.ok + v_ramp.bad >= 10
                                                              AND v_ramp.bad >= v_ramp.stop_at * (v_ramp.ok + v_ramp.bad)) THEN
            v_why := 'stopped';
            v_room := 0;
        ELSE
            IF v_ramp.passed_at IS NULL THEN
                SELECT count(*) INTO v_running FROM jobs j
                 WHERE j.state = 'processing' AND j.kind = p_kind AND j.leased_at >= v_ramp.began;
            END IF;
            SELECT r.room, r.again INTO v_room, v_again
              FROM ramp_room_v1(v_ramp, coalesce(p_worker, '00000000-0000-0000-0000-000000000000'), v_running) r;
            v_why := CASE WHEN v_room > p_ahead OR v_room IS NULL THEN NULL WHEN v_ramp.passed_at IS NULL THEN 'canary'
                          WHEN v_again = 0.5 THEN 'steps' ELSE 'rate' END;
        END IF;
    END IF;
    RETURN jsonb_build_object('check', 'hold', 'ok', v_hold IS NULL OR v_why IS NULL, 'since', v_hold->'created',
                              'hold', v_hold, 'why', CASE WHEN v_hold IS NOT NULL THEN v_why END, 'room', v_room,
                              'again', v_again);
END $$;
