-- kinds_v1 of counts that were kept, as a JSON array; null if they can't be read: somebody wrote something else there. Then
-- they count as not counted yet, and the next count mends them. Called by queue_gauges_v1.
CREATE OR REPLACE FUNCTION counted_kinds_v1(p_counts jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(to_jsonb(k)), '[]') FROM kinds_v1(p_counts) k);
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
