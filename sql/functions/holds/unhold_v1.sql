-- Ends a hold, writes its audit row, and wakes the workers.
-- Returns the hold that it ended, with the actor who had set it; no row if there was none.
-- Locks: a batch of mirror_pause_v1 that is still at work holds a shared lock on the row. So this function waits for it,
-- and no batch is at work when it returns.
-- Called by resume_v1 and resume_kind_v1. It runs with the rights of the owner: see hold_v1.
CREATE OR REPLACE FUNCTION unhold_v1(p_scope text, p_target text, p_reason text, p_actor text) RETURNS SETOF holds
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_hold :"schema".holds;
BEGIN
    DELETE FROM :"schema".holds WHERE scope = p_scope AND target = p_target RETURNING * INTO v_hold;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM :"schema".end_ramp_v1(v_hold.id);
    INSERT INTO :"schema".audit (actor, action, target, reason, detail)
    VALUES (p_actor, 'resume', pg_catalog.concat_ws(' ', p_scope, nullif(p_target, '')), p_reason,
            pg_catalog.jsonb_build_object('hold', v_hold.id, 'set_by', v_hold.actor, 'set_at', v_hold.created));
    PERFORM :"schema".wake_v1();
    RETURN NEXT v_hold;
END $$;
