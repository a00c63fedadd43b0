-- Returns what an operator sees of a job, as JSON, with a hash in place of its payload.
-- If the caller has left out the payload (job_row_v1), the face has none.
-- Of a lease it has the owner and the start, which no heartbeat or renewal changes.
-- A job is unchanged while its face is the same (same_face_v1). The audit record keeps the faces before and after a change, and a plan
-- keeps those that it was made for. The caller sets the time zone to UTC, so that the times of two faces compare.
CREATE OR REPLACE FUNCTION job_face_v1(p_job jobs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_hash bigint := pg_catalog.jsonb_hash_extended(p_job.payload, 0);
BEGIN
    p_job.payload := NULL;  -- it may be large
    RETURN pg_catalog.to_jsonb(p_job) - '{payload,lease_expires_at,lease_token,worker_id}'::text[]
           || CASE WHEN v_hash IS NULL THEN '{}' ELSE pg_catalog.jsonb_build_object('payload', v_hash) END;
END $$;
