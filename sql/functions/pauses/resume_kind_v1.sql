-- Ends the pause of a kind, no matter who set it.
-- Returns the hold that it ended; no row if there was none. Afterwards call unpause_v1, in transactions of its own, until it
-- returns no row.
CREATE OR REPLACE FUNCTION resume_kind_v1(p_kind text, p_reason text DEFAULT NULL, p_actor text DEFAULT session_user)
RETURNS SETOF holds
LANGUAGE sql SET search_path FROM CURRENT
AS $$ SELECT * FROM unhold_v1('kind', p_kind, p_reason, p_actor) $$;
