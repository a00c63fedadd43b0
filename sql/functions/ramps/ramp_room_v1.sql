-- Says how many jobs of its kind a ramp lets a worker lease now:
--   room   the most jobs; null: no limit
--   again  if the room is 0: in how many seconds to look again
-- It reads and changes nothing. p_running is how many jobs of the kind run that were leased under the ramp; it counts during
-- the canary only.
-- Called by ramp_rooms_v1.
CREATE OR REPLACE FUNCTION ramp_room_v1(
    p_ramp ramps, p_worker uuid, p_running bigint, OUT room integer, OUT again double precision
)
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    v_step   integer := p_ramp.steps[ramp_step_v1(p_ramp)];
    v_tokens double precision;
    v_most   bigint;
BEGIN
    IF p_ramp.passed_at IS NULL THEN
        room := greatest(p_ramp.canary - p_ramp.ok - p_running, 0);
    ELSIF p_ramp.over_at <= clock_timestamp() THEN
        RETURN;  -- only the sweep is left to do (end_expired_holds_v1)
    ELSIF v_step < 100 THEN
        SELECT greatest(ceil(count(*) * v_step / 100.0), 1) INTO v_most
          FROM workers w JOIN beats b ON b.worker_id = w.id
         WHERE p_ramp.kind = ANY (w.kinds) AND lives_v1(b.beat_at);
        SELECT CASE WHEN count(DISTINCT j.worker_id) >= v_most THEN 0 END INTO room FROM jobs j
         WHERE j.state = 'processing' AND j.kind = p_ramp.kind AND j.worker_id <> p_worker;
    END IF;
    IF room = 0 THEN
        again := 0.5;
    ELSIF p_ramp.rate IS NOT NULL THEN
        v_tokens := ramp_tokens_v1(p_ramp);
        room := least(room, floor(v_tokens)::integer);
        -- What comes during a short rest is saved up, so many workers need not look for each single one.
        again := CASE WHEN room = 0 THEN greatest((1 - v_tokens) / p_ramp.rate, 0.2) END;
    END IF;
END $$;
