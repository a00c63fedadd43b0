-- Counts, for the metrics of all workers, what ended with a worker (leases_returned): its attempts that no scrape has seen, by
-- kind and outcome, and as `forced` the processes that were ended because a handler of the kind didn't stop. The arrays run in
-- parallel. Called by a worker that leaves, by its control thread when that ends the process, and by release-dead.
CREATE OR REPLACE FUNCTION count_ended_v1(p_kinds text[], p_outcomes text[], p_counts bigint[]) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    INSERT INTO leases_returned AS r (kind, ok, retry, failed, poison, released, lease_lost, forced)
    SELECT kind, coalesce(sum(n) FILTER (WHERE outcome = 'ok'), 0), coalesce(sum(n) FILTER (WHERE outcome = 'retry'), 0),
           coalesce(sum(n) FILTER (WHERE outcome = 'failed'), 0), coalesce(sum(n) FILTER (WHERE outcome = 'poison'), 0),
           coalesce(sum(n) FILTER (WHERE outcome = 'released'), 0),
           coalesce(sum(n) FILTER (WHERE outcome = 'lease_lost'), 0), coalesce(sum(n) FILTER (WHERE outcome = 'forced'), 0)
      FROM unnest(p_kinds, p_outcomes, p_counts) e (kind, outcome, n)
     GROUP BY kind ORDER BY kind  -- two at once, in the same order: no deadlock
    ON CONFLICT (kind) DO UPDATE  -- a sum at its end stays there
       SET ok = least(r.ok, 9223372036854775807 - excluded.ok) + excluded.ok,
           retry = least(r.retry, 9223372036854775807 - excluded.retry) + excluded.retry,
           failed = least(r.failed, 9223372036854775807 - excluded.failed) + excluded.failed,
           poison = least(r.poison, 9223372036854775807 - excluded.poison) + excluded.poison,
           released = least(r.released, 9223372036854775807 - excluded.released) + excluded.released,
           lease_lost = least(r.lease_lost, 9223372036854775807 - excluded.lease_lost) + excluded.lease_lost,
           forced = least(r.forced, 9223372036854775807 - excluded.forced) + excluded.forced
$$;
