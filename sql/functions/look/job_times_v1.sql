-- Returns the four times of a job as JSON, made readable by readable_v1, or an empty object if all are readable already.
-- Concatenate the result to the job's to_jsonb. All four times are tested at once, because lists are long. Called by
-- shown_job_v1.
CREATE OR REPLACE FUNCTION job_times_v1(p_job jobs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    IF least(p_job.run_at, p_job.created_at, p_job.leased_at, p_job.lease_expires_at) >= readable_v1('-infinity')
       AND greatest(p_job.run_at, p_job.created_at, p_job.leased_at, p_job.lease_expires_at) <= readable_v1('infinity') THEN
        RETURN '{}';
    END IF;
    RETURN jsonb_build_object('run_at', readable_v1(p_job.run_at), 'created_at', readable_v1(p_job.created_at),
                              'leased_at', readable_v1(p_job.leased_at),
                              'lease_expires_at', readable_v1(p_job.lease_expires_at));
END $$;
