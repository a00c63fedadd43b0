-- Sets or updates a hold, and writes its audit row.
-- Every lease that begins after the commit obeys the hold. Call barrier_v1 afterwards, in a transaction of its own, before
-- you rely on it. p_until is the end of the hold; null or infinity means until somebody ends it. An update replaces the
-- end and the actor, and the reason unless p_reason is null. It ends a ramp (ramp_kind_v1).
-- Returns the hold. Raises invalid_parameter_value if p_until has passed.
-- Called by drain_v1 and pause_kind_v1. It runs with the rights of the owner, so that an operator can set no hold without
-- its audit row.
CREATE OR REPLACE FUNCTION hold_v1(p_scope text, p_target text, p_reason text, p_until timestamptz, p_actor text)
RETURNS holds
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_hold :"schema".holds;
BEGIN
    p_until := nullif(p_until, 'infinity');  -- both mean: until somebody ends it
    IF p_until <= clock_timestamp() THEN
        RAISE EXCEPTION 'until lies in the past: %', p_until USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A hold whose end has passed is over, even if no sweep has removed it yet.
    DELETE FROM :"schema".holds WHERE scope = p_scope AND target = p_target AND until <= clock_timestamp();
    INSERT INTO :"schema".holds (scope, target, reason, until, actor)
    VALUES (p_scope, p_target, p_reason, p_until, p_actor)
    ON CONFLICT (scope, target) DO UPDATE
       SET reason = coalesce(excluded.reason, holds.reason), until = excluded.until, actor = excluded.actor
    RETURNING * INTO v_hold;
    PERFORM :"schema".end_ramp_v1(v_hold.id);
    INSERT INTO :"schema".audit (actor, action, target, reason, detail)
    VALUES (p_actor, v_hold.mode, pg_catalog.concat_ws(' ', p_scope, nullif(p_target, '')), p_reason,
            pg_catalog.jsonb_build_object('hold', v_hold.id, 'until', p_until));
    RETURN v_hold;
END $$;
