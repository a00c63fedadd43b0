-- Writes down that a worker came back too late for its lease, so that a second run is explained. Changes no job.
-- Called by the main thread after a settle was refused.
CREATE OR REPLACE FUNCTION lost_v1(
    p_worker uuid, p_id bigint, p_kind text, p_attempts integer, p_error text, p_retention text
) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT record_v1(ARRAY[ROW(p_id, p_kind, 'lease_lost', p_attempts,
                               (SELECT host || ':' || pid FROM workers WHERE id = p_worker), NULL, clock_timestamp(), p_error,
                               NULL, NULL, p_retention)::job_history])
     WHERE p_retention <> 'none'
$$;
