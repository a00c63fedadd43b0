-- Returns the rows of kinds_v1 for stored counts as a JSON array, or null if the stored counts cannot be read.
-- A kind without jobs is left out, unless it is in p_known, or p_known is null. With p_known null, the caller is a worker of the
-- former release. It needs a name in each entry, and gives the name 'other' to sums itself.
-- They cannot be read if somebody wrote something else there. The queue then counts as not counted yet, and the next count
-- repairs them. Called by queue_gauges_v1.
CREATE OR REPLACE FUNCTION counted_kinds_v1(p_counts jsonb, p_known text[] DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(CASE WHEN p_known IS NULL AND k.kind IS NULL THEN to_jsonb(k) || '{"kind": "other"}'
                                           ELSE to_jsonb(k) END), '[]')
              FROM kinds_v1(p_counts) k
             WHERE k.queued + k.processing + k.paused + k.failed > 0 OR p_known IS NULL OR k.kind = ANY (p_known));
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
