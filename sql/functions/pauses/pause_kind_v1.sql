-- Pauses a kind: no job of it is leased any more, including jobs that are enqueued, retried or due later.
-- The pause lasts until p_until; null or infinity means until resume_kind_v1. Pausing the kind again updates the pause.
-- Returns the hold. Raises invalid_parameter_value if p_until has passed.
-- After the commit call barrier_v1('kind', ...), in a transaction of its own: when it returns true, the pause is certain.
CREATE OR REPLACE FUNCTION pause_kind_v1(
    p_kind text, p_reason text DEFAULT NULL, p_until timestamptz DEFAULT NULL, p_actor text DEFAULT session_user
) RETURNS holds
LANGUAGE sql SET search_path FROM CURRENT
AS $$ SELECT hold_v1('kind', p_kind, p_reason, p_until, p_actor) $$;
