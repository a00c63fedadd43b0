-- A job as JSON, as far as it can be shown. The payload is text in it: one that a client can't read (too deep, too many digits)
-- must not keep it from reading the rest. Of a text longer than p_most bytes the beginning, if any; payload_cut says so then.
-- Called by list_jobs_v1 and show_job_v1.
CREATE OR REPLACE FUNCTION shown_job_v1(p_job jobs, p_most bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
DECLARE
    v_payload record;
BEGIN
    SELECT * INTO v_payload FROM payload_text_v1(p_job.payload, p_most);
    p_job.payload := NULL;
    p_job.last_error := left(p_job.last_error, 10000);  -- anybody may write it
    RETURN to_jsonb(p_job) || job_times_v1(p_job) || jsonb_build_object('payload', v_payload.written)
        || jsonb_strip_nulls(jsonb_build_object('payload_cut', v_payload.fault));
END $$;
