-- Ends one drain, or all drains if p_scope is null.
-- p_scope and p_target are those of drain_v1. Pauses of kinds stay: resume_kind_v1 ends those.
-- Returns the holds that it ended; no row if there was none. Each gets an audit row.
CREATE OR REPLACE FUNCTION resume_v1(
    p_scope text DEFAULT NULL, p_target text DEFAULT '', p_reason text DEFAULT NULL, p_actor text DEFAULT session_user
) RETURNS SETOF holds
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT u.*
      FROM holds h, LATERAL unhold_v1(h.scope, h.target, p_reason, p_actor) u
     WHERE h.mode = 'drain' AND (p_scope IS NULL OR (h.scope = p_scope AND h.target = p_target))
$$;
