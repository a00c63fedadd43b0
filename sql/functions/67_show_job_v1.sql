-- One job with the story of its leases: its row of jobs, or, once it is gone, the last row of its history; null if it
-- never was, or is forgotten. The payload is text, as in list_jobs_v1.
CREATE OR REPLACE FUNCTION show_job_v1(p_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    WITH story AS MATERIALIZED (
        SELECT s.finished_at AS ended,
               to_jsonb(s) || jsonb_build_object('payload', s.payload::text, 'leased_at', readable_v1(s.leased_at),
                                                 'finished_at', readable_v1(s.finished_at)) AS told
          FROM job_history s WHERE s.id = p_id
    )
    SELECT coalesce((SELECT to_jsonb(j) || job_times_v1(j) || jsonb_build_object('payload', j.payload::text) FROM jobs j WHERE j.id = p_id),
                    (SELECT told FROM story ORDER BY ended DESC LIMIT 1))
        || jsonb_build_object('history', (
               SELECT coalesce(jsonb_agg(told - 'payload' - 'id' - 'kind' ORDER BY ended), '[]') FROM story))
$$;
