-- Claims the next count of the queue for the caller; returns true if the caller may count.
-- p_limit is how many seconds the caller will count at most. The result is null if somebody began to count in the last
-- p_seconds, or in 20 times the seconds that the last count took. So the whole fleet spends at most a twentieth of a core
-- on counts. Nothing is locked during a count, and nobody waits.
-- A caller that dies during its count, or is cancelled at the limit, leaves the limit as the time that it took. A claim in
-- the future (the clock was set back) does not count, and no time above p_limit is believed.
-- Called by the metrics endpoint, in a transaction of its own, before recount_v1.
CREATE OR REPLACE FUNCTION claim_count_v1(p_seconds double precision, p_limit double precision) RETURNS boolean
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT set_config('synchronous_commit', 'off', true);  -- a count that is lost in a crash is soon made again
    INSERT INTO queue_counts AS q (claimed_at, seconds) VALUES (clock_timestamp(), p_limit)
    ON CONFLICT (only_row) DO UPDATE SET claimed_at = excluded.claimed_at, seconds = excluded.seconds
     WHERE (seconds_since_v1(q.claimed_at) BETWEEN 0 AND greatest(p_seconds, 20 * least(q.seconds, p_limit))) IS NOT TRUE
    RETURNING true
$$;
