-- Is it certain for a while that enqueues wake a worker? Not from a quarter of the server's queue of notifications on: from the
-- half on they send none (wake_v1), and somebody who fills it takes seconds from the one to the other. Called by lease_v1 for a
-- worker that goes to rest, and by the control thread while it rests.
CREATE OR REPLACE FUNCTION wakes_come_v1() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN pg_notification_queue_usage() < 0.25; END $$;
