-- Ends a drain; with no arguments all drains, of whatever scope. Pauses of kinds stay. Returns the holds that ended.
CREATE OR REPLACE FUNCTION resume_v1(
    p_scope text DEFAULT NULL, p_target text DEFAULT '', p_reason text DEFAULT NULL, p_actor text DEFAULT session_user
) RETURNS SETOF holds
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT u.*
      FROM holds h, LATERAL unhold_v1(h.scope, h.target, p_reason, p_actor) u
     WHERE h.mode = 'drain' AND (p_scope IS NULL OR (h.scope = p_scope AND h.target = p_target))
$$;
