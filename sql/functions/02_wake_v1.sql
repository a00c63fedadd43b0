-- Wakes the idle workers at commit. NOTIFY serialises the commits of all who send one, so it is sent only while
-- some worker is idle; an enqueue that just misses a worker falling asleep waits for that worker's next poll.
-- p_anew: what became runnable may lie behind the point where a worker's last scan ended (see lease_v1), so let it look
-- from the start. Called by the trigger on jobs, and by each function that makes jobs runnable.
CREATE OR REPLACE FUNCTION wake_v1(p_anew boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    IF EXISTS (SELECT FROM workers WHERE idle) THEN
        PERFORM pg_notify(channel_v1(), CASE WHEN p_anew THEN 'anew' ELSE '' END);
    END IF;
END $$;
