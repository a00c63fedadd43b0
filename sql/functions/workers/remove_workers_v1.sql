-- Removes the rows of workers that are gone, except those that still hold a lease, and returns how many.
-- It also ends the drains that named them (forget_drains_v1).
CREATE OR REPLACE FUNCTION remove_workers_v1(p_workers uuid[]) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count integer;
BEGIN
    DELETE FROM :"schema".workers w
     WHERE w.id = ANY (p_workers)
       AND NOT EXISTS (SELECT FROM :"schema".jobs j WHERE j.state = 'processing' AND j.worker_id = w.id);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    PERFORM :"schema".forget_drains_v1();
    RETURN v_count;
END $$;
