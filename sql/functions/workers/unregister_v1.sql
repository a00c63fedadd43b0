-- Removes a worker that leaves, and puts the leases that it never learned of back into the queue.
-- Those are the leases with the tokens p_strays, whose answers it never got. The worker's row is removed, and with it the
-- drain that named the worker. The row stays if the worker still holds a lease: of a job that ran and could not be settled.
-- That job is not given back, because it did run. By the row, a later return of dead workers' leases finds and records it.
-- A worker calls this last of all.
CREATE OR REPLACE FUNCTION unregister_v1(p_worker uuid, p_strays uuid[]) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT release_strays_v1(p_worker, p_strays);
    SELECT remove_workers_v1(ARRAY[p_worker]);
$$;
