-- Holds a kind: its jobs of now and those enqueued, retried or due later. Pausing again updates the pause.
CREATE OR REPLACE FUNCTION pause_kind_v1(
    p_kind text, p_reason text DEFAULT NULL, p_until timestamptz DEFAULT NULL, p_actor text DEFAULT session_user
) RETURNS holds
LANGUAGE sql SET search_path FROM CURRENT
AS $$ SELECT hold_v1('kind', p_kind, p_reason, p_until, p_actor) $$;
