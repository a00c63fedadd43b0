-- Wakes the workers at commit. p_anew: what became runnable may lie behind the point where a worker's last scan ended (see
-- lease_v1), so let it look from the start. Called by the trigger on jobs, and by each function that makes jobs runnable but
-- settle_v1: what a worker gives back or will retry is found when it, or another one, looks again.
-- A commit with a NOTIFY fails once the server's queue of them is full (a session that listens and stays in a transaction
-- keeps them all), and nobody could catch that: so none is sent from the half on. Workers find the jobs by polling, which they do
-- twice a second from a quarter on (wakes_come_v1).
CREATE OR REPLACE FUNCTION wake_v1(p_anew boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify(:"schema".channel_v1(), CASE WHEN p_anew THEN 'anew' ELSE '' END);
    END IF;
END $$;
