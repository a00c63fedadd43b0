-- Shows the ramp of a hold as a JSON object; null if it has none. Beside the columns of ramps it has:
--   step      at which of the steps it is, from 1; percent is that step. Null: no steps, or the canary has not passed
--   next_in   in how many seconds this step ends
--   ends_in   in how many seconds the pause ends, if the ramp does not stop: after the last step, or at its end (until). Null: not
--             known yet, or never
--   state     canary, steps, rate, over or stopped
-- ok and bad include what nobody has added up yet.
CREATE OR REPLACE FUNCTION shown_ramp_v1(p_hold bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT to_jsonb(r) - '{id,hold_id,tokens,filled_at}'::text[] || jsonb_build_object(
               'ok', r.ok + e.ok, 'bad', r.bad + e.bad, 'began', readable_v1(r.began), 'passed_at', readable_v1(r.passed_at),
               'over_at', readable_v1(r.over_at), 'stopped_at', readable_v1(r.stopped_at),
               'step', s.step, 'percent', r.steps[s.step],
               'next_in', CASE WHEN s.step IS NOT NULL
                               THEN round(greatest(r.every * s.step - seconds_since_v1(r.passed_at), 0)::numeric, 1) END,
               'ends_in', CASE WHEN l.seconds IS NOT NULL THEN round(greatest(l.seconds, 0)::numeric, 1) END,
               'state', CASE WHEN r.stopped_at IS NOT NULL THEN 'stopped' WHEN r.passed_at IS NULL THEN 'canary'
                             WHEN r.over_at <= clock_timestamp() THEN 'over'
                             WHEN r.steps IS NOT NULL THEN 'steps' ELSE 'rate' END)
      FROM ramps r LEFT JOIN standing_holds h ON h.id = r.hold_id, LATERAL (SELECT ramp_step_v1(r) AS step) s,
           LATERAL (SELECT -greatest(seconds_since_v1(h.until),
                                     CASE WHEN r.stopped_at IS NULL THEN seconds_since_v1(r.over_at) END) AS seconds) l,
           LATERAL (SELECT coalesce(sum(x.ok), 0) AS ok, coalesce(sum(x.bad), 0) AS bad FROM ramp_ends x WHERE x.ramp = r.id) e
     WHERE r.hold_id = p_hold
$$;
