-- Adds what a worker counted since its last call to the figures of each kind (kind_stats), and folds what is past.
-- p_figures is a JSON array of objects with the columns of kind_stats, without id, seconds and begins. What is missing is 0.
-- It waits for no lock. Nothing is updated here, and somebody who has locked the whole table must not keep the control thread
-- from its other questions (lock_timeout). It does not wait for the disk either: a crash of the database may lose the figures
-- of the last second.
-- It folds more rows than it adds, so that no more and more are left; but not many more, because a renewal of the control thread
-- may wait meanwhile.
-- Called by the control thread, every few seconds, and at its end.
CREATE OR REPLACE FUNCTION write_stats_v1(p_figures jsonb) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT SET lock_timeout = '0.1s'
AS $$
    SELECT set_config('synchronous_commit', 'off', true);
    INSERT INTO kind_stats (kind, ok, retry, failed, poison, released, crashed, lease_lost, waits, runs)
    SELECT f.kind, coalesce(f.ok, 0), coalesce(f.retry, 0), coalesce(f.failed, 0), coalesce(f.poison, 0), coalesce(f.released, 0),
           coalesce(f.crashed, 0), coalesce(f.lease_lost, 0), coalesce(f.waits, '{}'), coalesce(f.runs, '{}')
      FROM jsonb_to_recordset(p_figures) AS f (
               kind text, ok bigint, retry bigint, failed bigint, poison bigint, released bigint, crashed bigint,
               lease_lost bigint, waits jsonb, runs jsonb);
    SELECT fold_stats_v1(100 + 2 * jsonb_array_length(p_figures))
$$;
