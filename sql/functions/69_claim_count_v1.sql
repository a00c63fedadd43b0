-- May the caller count the queue? Only if nobody began to in the last p_seconds: true then, and for p_seconds for nobody
-- else. Nothing is locked while somebody counts, nobody waits, and one who dies over it, or whose count takes too long
-- and is cancelled, is followed by the next p_seconds later: so the fleet spends no more on it than one worker would.
-- Called by the metrics endpoint, as a transaction of its own, before recount_v1.
CREATE OR REPLACE FUNCTION claim_count_v1(p_seconds double precision) RETURNS boolean
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    INSERT INTO queue_counts AS q (claimed_at) VALUES (clock_timestamp())
    ON CONFLICT (only_row) DO UPDATE SET claimed_at = clock_timestamp()
     WHERE q.claimed_at < clock_timestamp() - make_interval(secs => p_seconds)
    RETURNING true
$$;
