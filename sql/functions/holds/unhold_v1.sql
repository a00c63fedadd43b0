-- Ends a hold, with its audit row, and returns it (with who had set it); no row if there was none. A mirror still
-- at work on it (mirror_pause_v1) holds the row shared, so that it is over when this returns.
-- Called by resume_v1 and resume_kind_v1. As the owner: see hold_v1.
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
    INSERT INTO :"schema".audit (actor, action, target, reason, detail)
    VALUES (p_actor, 'resume', pg_catalog.concat_ws(' ', p_scope, nullif(p_target, '')), p_reason,
            pg_catalog.jsonb_build_object('hold', v_hold.id, 'set_by', v_hold.actor, 'set_at', v_hold.created));
    PERFORM :"schema".wake_v1();
    RETURN NEXT v_hold;
END $$;
