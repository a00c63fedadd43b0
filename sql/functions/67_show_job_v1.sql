-- One job with the story of its leases: its row of jobs, or, once it is gone, the last row of its history; null if it
-- never was, or is forgotten. The payload is text, as in list_jobs_v1.
CREATE OR REPLACE FUNCTION show_job_v1(p_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    WITH story AS MATERIALIZED (SELECT * FROM job_history WHERE id = p_id)
    SELECT coalesce((SELECT to_jsonb(j) || jsonb_build_object('payload', j.payload::text) FROM jobs j WHERE j.id = p_id),
                    (SELECT to_jsonb(s) || jsonb_build_object('payload', s.payload::text) FROM story s ORDER BY s.finished_at DESC LIMIT 1))
        || jsonb_build_object('history', (
               SELECT coalesce(jsonb_agg(to_jsonb(s) - 'payload' - 'id' - 'kind' ORDER BY s.finished_at), '[]') FROM story s))
$$;
