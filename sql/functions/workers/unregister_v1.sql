-- A worker leaves: the leases of these tokens, whose answers it never got, go back into the queue. Its row goes, and with it
-- the drain that named it, unless it still holds something: a job that ran, and could not be settled. That one is not given back as
-- if it had not run: whoever returns the leases of the dead finds it by this row, and writes that down. Called last of all.
CREATE OR REPLACE FUNCTION unregister_v1(p_worker uuid, p_strays uuid[]) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT release_strays_v1(p_worker, p_strays);
    SELECT remove_workers_v1(ARRAY[p_worker]);
$$;
