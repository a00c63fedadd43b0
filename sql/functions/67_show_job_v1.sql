-- One job with the story of its leases: its row of jobs, or, once it is gone, the last row of its history; null if it
-- never was, or is forgotten.
CREATE OR REPLACE FUNCTION show_job_v1(p_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    WITH story AS MATERIALIZED (SELECT * FROM job_history WHERE id = p_id)
    SELECT coalesce((SELECT to_jsonb(j) FROM jobs j WHERE j.id = p_id),
                    (SELECT to_jsonb(s) FROM story s ORDER BY s.finished_at DESC LIMIT 1))
        || jsonb_build_object('history', (
               SELECT coalesce(jsonb_agg(to_jsonb(s) - 'payload' - 'id' - 'kind' ORDER BY s.finished_at), '[]') FROM story s))
$$;
