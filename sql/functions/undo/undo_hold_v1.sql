-- Ends the hold that an audit row set, if it still stands exactly as that row set it (hold_stands_v1).
-- Returns the hold that it ended; no row if somebody has changed or ended it. The resume gets its own audit row. After the
-- pause of a kind call unpause_v1, as after resume_kind_v1.
-- Called by `audit undo`. It runs with the rights of the owner, because an operator has no right to lock a hold.
CREATE OR REPLACE FUNCTION undo_hold_v1(p_audit bigint, p_reason text DEFAULT NULL, p_actor text DEFAULT session_user)
RETURNS SETOF holds
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_hold :"schema".holds;
BEGIN
    SELECT h.* INTO v_hold FROM :"schema".holds h, :"schema".audit a
     WHERE a.id = p_audit AND pg_catalog.to_jsonb(h.id) = a.detail->'hold' FOR UPDATE OF h;
    IF :"schema".hold_stands_v1(p_audit) THEN  -- nobody can change it now
        RETURN QUERY SELECT * FROM :"schema".unhold_v1(v_hold.scope, v_hold.target, p_reason, p_actor);
    END IF;
END $$;
