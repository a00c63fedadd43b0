-- Removes the rows of workers that were silent for a day and hold no lease, and returns how many.
-- Nobody on their host came back to do that. A last beat more than a day ahead counts as silence, too (see lives_v1). Without a
-- beat, the start of the worker counts as its last one.
CREATE OR REPLACE FUNCTION forget_workers_v1() RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    SELECT :"schema".remove_workers_v1(ARRAY(
        SELECT w.id FROM :"schema".workers w LEFT JOIN :"schema".beats b ON b.worker_id = w.id
         WHERE coalesce(abs(:"schema".seconds_since_v1(coalesce(b.beat_at, w.started_at))) > 86400, true)))
$$;
