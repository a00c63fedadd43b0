-- Resumes a kind in steps: its pause stays, but lets some jobs through until the ramp is over. A kind that is not paused is held
-- by the ramp from now on. A ramp that stands is replaced. At least one of the first three is not null:
--   p_canary  so many jobs first. The ramp goes on when all of them ended ok, and stops when one does not.
--   p_steps   percent of the living workers that know the kind: so many may work on it at once, at least one. Each step lasts
--             p_every seconds. After the last one the pause ends.
--   p_rate    so many leases per second in the whole fleet, at most, also during the steps. Without steps such a ramp has no
--             end of its own: resume_kind_v1 ends it, or p_until.
--   p_stop_at the ramp stops when this part of the ended runs (0 to 1) did not end ok; it looks after 10 of them. Then
--             nothing of the kind is leased any more, the end p_until no longer counts, and an audit row says why.
-- The reason and the actor of a pause that stands stay, unless p_reason is given. Returns the hold. Raises
-- invalid_parameter_value. Afterwards call unpause_v1, as after resume_kind_v1: the limits hold for the jobs that it puts back.
-- It runs with the rights of the owner: see hold_v1. It waits for a batch of mirror_pause_v1: see unhold_v1.
CREATE OR REPLACE FUNCTION ramp_kind_v1(
    p_kind text, p_canary integer DEFAULT NULL, p_steps integer[] DEFAULT NULL, p_every double precision DEFAULT NULL,
    p_rate double precision DEFAULT NULL, p_stop_at double precision DEFAULT 0.2, p_reason text DEFAULT NULL,
    p_until timestamptz DEFAULT NULL, p_actor text DEFAULT session_user
) RETURNS holds
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_hold :"schema".holds;
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.unnest(p_steps) WITH ORDINALITY s (step, at) WHERE s.step <= p_steps[s.at - 1]) THEN
        RAISE EXCEPTION 'no such ramp: these steps do not rise: %', pg_catalog.array_to_string(p_steps, ', ')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    p_until := nullif(p_until, 'infinity');
    IF p_until <= clock_timestamp() THEN
        RAISE EXCEPTION 'until lies in the past: %', p_until USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM :"schema".holds WHERE scope = 'kind' AND target = p_kind AND until <= clock_timestamp();
    INSERT INTO :"schema".holds (scope, target, reason, until, actor)
    VALUES ('kind', p_kind, p_reason, p_until, p_actor)
    ON CONFLICT (scope, target) DO UPDATE SET reason = coalesce(excluded.reason, holds.reason), until = excluded.until
    RETURNING * INTO v_hold;
    PERFORM :"schema".end_ramp_v1(v_hold.id);
    INSERT INTO :"schema".ramps (hold_id, kind, canary, steps, every, rate, stop_at, passed_at, over_at)
    SELECT v_hold.id, p_kind, p_canary, p_steps, p_every, p_rate, p_stop_at, n.now,
           n.now + pg_catalog.make_interval(secs => least(p_every, 864000::float8) * pg_catalog.cardinality(p_steps)::float8)
      FROM (SELECT CASE WHEN p_canary IS NULL THEN clock_timestamp() END AS now) n;
    INSERT INTO :"schema".audit (actor, action, target, reason, detail)
    VALUES (p_actor, 'ramp', pg_catalog.concat('kind ', p_kind), p_reason,
            pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
                'hold', v_hold.id, 'canary', p_canary, 'steps', p_steps, 'every', p_every, 'rate', p_rate, 'stop_at', p_stop_at,
                'until', p_until)));
    PERFORM :"schema".wake_v1();
    RETURN v_hold;
EXCEPTION WHEN check_violation OR not_null_violation OR datetime_field_overflow OR interval_field_overflow THEN
    RAISE EXCEPTION 'no such ramp: %', SQLERRM USING ERRCODE = 'invalid_parameter_value',
        HINT = 'A ramp has a canary (1 to 1,000 jobs), steps (rising percentages from 1 to 100, each for 1 second to 10 days), '
               'or a rate. stop_at is above 0, and at most 1.';
END $$;
