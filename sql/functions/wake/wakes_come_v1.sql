-- Tells whether an enqueue is certain to wake a worker in the next seconds.
-- The answer is false while the server's queue of notifications is a quarter full or more. From a half on enqueues send
-- none (wake_v1), and a session that fills the queue takes seconds from the quarter to the half.
-- Called by lease_v1 for a worker that goes to rest, and by the control thread during the rest.
CREATE OR REPLACE FUNCTION wakes_come_v1() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN pg_notification_queue_usage() < 0.25; END $$;
