-- The times of a job for JSON, as readable_v1 makes them: laid over to_jsonb of its row. Called by list_jobs_v1 and show_job_v1.
CREATE OR REPLACE FUNCTION job_times_v1(p_job jobs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
BEGIN
    RETURN jsonb_build_object('run_at', readable_v1(p_job.run_at), 'created_at', readable_v1(p_job.created_at),
                              'leased_at', readable_v1(p_job.leased_at),
                              'lease_expires_at', readable_v1(p_job.lease_expires_at));
END $$;
