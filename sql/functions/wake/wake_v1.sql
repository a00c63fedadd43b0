-- Wakes the workers that are at rest, by a NOTIFY at commit.
-- p_anew: what became due may lie behind the point where a worker's last scan ended (see lease_v1), so workers must look
-- from the start. Called by the trigger on jobs, and by each function that makes jobs runnable except settle_v1. After a
-- settle_v1, a later look of a worker finds the jobs that were released or will be retried.
-- A commit with a NOTIFY fails once the server's queue of notifications is full, and nobody could catch that. One session that
-- listens and stays in a transaction can fill it. So no NOTIFY is sent while the queue is half full or more. Workers then find
-- the jobs by polling, twice a second from a quarter on (wakes_come_v1).
CREATE OR REPLACE FUNCTION wake_v1(p_anew boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify(:"schema".channel_v1(), CASE WHEN p_anew THEN 'anew' ELSE '' END);
    END IF;
END $$;
