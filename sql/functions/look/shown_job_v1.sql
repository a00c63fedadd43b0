-- Returns a job as JSON that every client can read.
-- The payload is a text in it, because a client may be unable to parse it (too deep, or too many digits). Such a payload
-- must not hide the rest. Of a text longer than p_most bytes it has the beginning, if any, and payload_cut says so.
-- last_error is cut at 10,000 characters. Called by list_jobs_v1 and show_job_v1.
CREATE OR REPLACE FUNCTION shown_job_v1(p_job jobs, p_most bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
DECLARE
    v_payload record;
BEGIN
    SELECT * INTO v_payload FROM payload_text_v1(p_job.payload, p_most);
    p_job.payload := NULL;
    p_job.last_error := left(p_job.last_error, 10000);  -- it may be of any length
    RETURN to_jsonb(p_job) || job_times_v1(p_job) || jsonb_build_object('payload', v_payload.written)
        || jsonb_strip_nulls(jsonb_build_object('payload_cut', v_payload.fault));
END $$;
