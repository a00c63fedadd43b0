-- Removes the row of a silent worker whose jobs a sweep has taken back.
-- The row stays while the worker still holds a lease (remove_workers_v1), and while a drain names the worker: it may come back,
-- and must find its drain. Then forget_workers_v1 removes it after a day. A row that somebody has locked stays until the next sweep.
-- Called by sweep_silent_v1 and sweep_leases_v1.
CREATE OR REPLACE FUNCTION forget_silent_v1(p_worker uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '0.1s'
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM :"schema".holds h WHERE h.scope = 'worker' AND h.target = p_worker::text) THEN
        PERFORM :"schema".remove_workers_v1(ARRAY[p_worker]);
    END IF;
EXCEPTION WHEN lock_not_available THEN
    RAISE WARNING 'somebody has locked the row of the silent worker %: it stays', p_worker;
END $$;
