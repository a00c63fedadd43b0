-- Lists the pauses that stand now.
-- Called by a worker at its start, which logs them.
CREATE OR REPLACE FUNCTION pauses_v1() RETURNS TABLE (kind text, reason text, actor text)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT target, reason, actor FROM standing_holds WHERE scope = 'kind' ORDER BY target
$$;
