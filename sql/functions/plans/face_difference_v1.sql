-- Says what became of a job, from its face (job_face_v1) then and now: is gone, runs now, or what was changed.
-- A column counts if both faces have it, as in same_face_v1. Null if they are the same. p_now is null if the job is gone. Called by apply_chunk_v1 and plan_changes_v1.
CREATE OR REPLACE FUNCTION face_difference_v1(p_then jsonb, p_now jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN p_now IS NULL THEN 'is gone'
        WHEN p_now->>'state' = 'processing' AND p_then->>'state' <> 'processing'
            THEN pg_catalog.concat('runs now on ', p_now->>'leased_by')
        WHEN pg_catalog.jsonb_typeof(p_then) IS DISTINCT FROM 'object' THEN 'the plan does not say how it was'
        ELSE (SELECT pg_catalog.string_agg(
                  CASE WHEN key = 'payload' THEN 'its payload is another'
                       ELSE pg_catalog.format('%s was %s, is %s', key, coalesce(pg_catalog.left(o.value, 60), 'null'),
                                              coalesce(pg_catalog.left(n.value, 60), 'null')) END,
                  '; ' ORDER BY key <> 'state', key)
                FROM pg_catalog.jsonb_each_text(p_then) o JOIN pg_catalog.jsonb_each_text(p_now) n USING (key)
               WHERE o.value IS DISTINCT FROM n.value) END
$$;
