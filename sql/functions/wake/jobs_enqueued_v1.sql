-- Trigger on jobs: wakes a worker at rest after an INSERT by any program.
-- It runs once for each statement, no matter how many rows. It has the rights of the owner, so a login that may INSERT into
-- jobs needs no other right to wake a worker. There is no trigger on UPDATE, because every lease and settle
-- is one: a poll finds a row that was flipped by hand.
--
-- NOTIFY serializes the commits of all sessions that send one. So it is sent only while some worker is at rest and wants to
-- be woken. The session of such a worker holds lock 7304 shared (lease_v1), so nobody else gets it alone. The trigger reads no
-- table, so a snapshot that somebody holds slows nothing. It takes and returns the lock within one expression, where nothing
-- can interrupt, so nothing of the lock remains. The rare cases:
--   - Two enqueues at the same moment: each takes the other for a worker, and sends a NOTIFY that nobody needs.
--   - A worker is just going to rest: its next look finds the job, a second later at most. If the enqueue's transaction stays
--     open for longer, a poll finds the job.
--   - A stranger holds the lock: enqueues send a NOTIFY that nobody needs. A worker that cannot take the lock polls (lease_v1).
CREATE OR REPLACE FUNCTION jobs_enqueued_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- The key is that of schema_key_v1. A call of it would double the cost of this trigger.
    IF NOT (pg_try_advisory_lock(7304, hashtext(:'schema'))
            AND pg_advisory_unlock(7304, hashtext(:'schema')))
       AND :"schema".enqueues_notify_v1()
    THEN
        PERFORM :"schema".wake_v1(false);
    END IF;
    RETURN NULL;
END $$;

-- A trigger fires even if the user who inserts has no right to call it.
REVOKE EXECUTE ON FUNCTION jobs_enqueued_v1() FROM PUBLIC;

CREATE OR REPLACE TRIGGER jobs_enqueued AFTER INSERT ON jobs
    FOR EACH STATEMENT EXECUTE FUNCTION jobs_enqueued_v1();
