-- Returns kinds_v1 for stored counts as a JSON array, or null if the stored counts cannot be read.
-- They cannot be read if somebody wrote something else there. The queue then counts as not counted yet, and the next count
-- repairs them. Called by queue_gauges_v1.
CREATE OR REPLACE FUNCTION counted_kinds_v1(p_counts jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(to_jsonb(k)), '[]') FROM kinds_v1(p_counts) k);
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
