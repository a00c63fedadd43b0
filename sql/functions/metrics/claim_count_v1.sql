-- May the caller count the queue, for at most p_limit seconds? True if nobody began to in the last p_seconds, or in 20
-- times as long as it took last time: so the whole fleet spends no more than a twentieth of a core on it. Nothing is
-- locked while somebody counts, and nobody waits. Who dies over it, or is cancelled at the limit, leaves that limit
-- behind as the time that it took. A beginning that lies ahead (the clock was set back) is none, and no count took longer
-- than p_limit, whatever the row says. Called by the metrics endpoint, as a transaction of its own, before recount_v1.
CREATE OR REPLACE FUNCTION claim_count_v1(p_seconds double precision, p_limit double precision) RETURNS boolean
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT set_config('synchronous_commit', 'off', true);  -- a count that a crash takes along is soon taken again
    INSERT INTO queue_counts AS q (claimed_at, seconds) VALUES (clock_timestamp(), p_limit)
    ON CONFLICT (only_row) DO UPDATE SET claimed_at = excluded.claimed_at, seconds = excluded.seconds
     WHERE (seconds_since_v1(q.claimed_at) BETWEEN 0 AND greatest(p_seconds, 20 * least(q.seconds, p_limit))) IS NOT TRUE
    RETURNING true
$$;
