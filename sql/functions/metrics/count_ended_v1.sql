-- Adds to the counts that outlive a worker (leases_returned), by kind and outcome.
--   - the attempts of a worker that leaves before a scrape saw them
--   - the leases taken from dead workers
--   - as 'forced': the processes that were ended because a handler of the kind did not stop
-- The arrays run in parallel.
-- Called by a worker that leaves, by its control thread when that ends the process, by release-dead, and by
-- return_crashed_v1.
CREATE OR REPLACE FUNCTION count_ended_v1(p_kinds text[], p_outcomes text[], p_counts bigint[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO :"schema".leases_returned AS r (kind, ok, retry, failed, poison, released, crashed, lease_lost, forced)
    SELECT kind, coalesce(sum(n) FILTER (WHERE outcome = 'ok'), 0),
           coalesce(sum(n) FILTER (WHERE outcome = 'retry'), 0),
           coalesce(sum(n) FILTER (WHERE outcome = 'failed'), 0),
           coalesce(sum(n) FILTER (WHERE outcome = 'poison'), 0),
           coalesce(sum(n) FILTER (WHERE outcome = 'released'), 0),
           coalesce(sum(n) FILTER (WHERE outcome = 'crashed'), 0),
           coalesce(sum(n) FILTER (WHERE outcome = 'lease_lost'), 0),
           coalesce(sum(n) FILTER (WHERE outcome = 'forced'), 0)
      FROM unnest(p_kinds, p_outcomes, p_counts) e (kind, outcome, n)
     GROUP BY kind ORDER BY kind  -- two calls at once lock in the same order, so they can't deadlock
    ON CONFLICT (kind) DO UPDATE
       SET ok = :"schema".added_v1(r.ok, excluded.ok),
           retry = :"schema".added_v1(r.retry, excluded.retry),
           failed = :"schema".added_v1(r.failed, excluded.failed),
           poison = :"schema".added_v1(r.poison, excluded.poison),
           released = :"schema".added_v1(r.released, excluded.released),
           crashed = :"schema".added_v1(r.crashed, excluded.crashed),
           lease_lost = :"schema".added_v1(r.lease_lost, excluded.lease_lost),
           forced = :"schema".added_v1(r.forced, excluded.forced)
$$;
