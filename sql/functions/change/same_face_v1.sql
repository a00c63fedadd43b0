-- Says whether a job still has a face (job_face_v1) that was kept. A column counts if both faces have it: an upgrade may have
-- added a column to jobs since, or removed one. Null is no face.
CREATE OR REPLACE FUNCTION same_face_v1(p_kept jsonb, p_now jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN p_kept = p_now THEN true
                WHEN pg_catalog.jsonb_typeof(p_kept) = 'object' AND p_now IS NOT NULL THEN NOT EXISTS (
                    SELECT FROM pg_catalog.jsonb_each(p_kept) k WHERE p_now ? k.key AND k.value <> p_now->k.key)
                ELSE false END
$$;
