-- The pauses that stand now, for a worker that starts under them and for the metrics.
CREATE OR REPLACE FUNCTION pauses_v1() RETURNS TABLE (kind text, reason text, actor text)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT target, reason, actor FROM holds
     WHERE scope = 'kind' AND (until IS NULL OR until > clock_timestamp()) ORDER BY target
$$;
