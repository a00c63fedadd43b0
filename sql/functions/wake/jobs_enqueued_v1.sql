-- Trigger: any INSERT into jobs, by any program, is a complete enqueue. Once a statement, however many rows.
-- With the rights of the tables' owner: who may INSERT into jobs needs no right on anything else to wake a worker.
-- There is none on UPDATE, which every lease and settle is: a row flipped by hand is found by the next poll.
--
-- NOTIFY serialises the commits of all who send one, so it is sent only while some worker is at rest, and wants to be woken:
-- then its session has lock 7304 shared (lease_v1), and nobody gets it alone. No table is read, so nothing that a snapshot
-- keeps stands in the way. Taken and given back within one expression, where nothing can interrupt: what is left of it is
-- nothing. Two that ask at the very same moment take each other for a worker, and send a NOTIFY that nobody needs. An
-- enqueue that just misses a worker falling asleep is found by its next look, a second later at most; one whose transaction
-- stays open for longer waits for a poll. A stranger who takes this lock, shared or alone, makes enqueues send a NOTIFY that
-- nobody needs; a worker that can't take it because of him polls (lease_v1).
CREATE OR REPLACE FUNCTION jobs_enqueued_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- The key is that of schema_key_v1, whose call would cost as much again as all of this.
    IF NOT (pg_try_advisory_lock(7304, hashtext(:'schema'))
            AND pg_advisory_unlock(7304, hashtext(:'schema')))
       AND :"schema".enqueues_notify_v1()
    THEN
        PERFORM :"schema".wake_v1(false);
    END IF;
    RETURN NULL;
END $$;

-- A trigger fires whether or not he who inserts may call it.
REVOKE EXECUTE ON FUNCTION jobs_enqueued_v1() FROM PUBLIC;

CREATE OR REPLACE TRIGGER jobs_enqueued AFTER INSERT ON jobs
    FOR EACH STATEMENT EXECUTE FUNCTION jobs_enqueued_v1();
