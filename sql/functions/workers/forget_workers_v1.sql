-- Takes away the rows of workers that were silent for a day (or whose last beat lies a day ahead: see lives_v1) and hold no
-- lease: nobody on their host came back. Where a beat is missing, the start counts as the last one.
CREATE OR REPLACE FUNCTION forget_workers_v1() RETURNS integer
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT remove_workers_v1(ARRAY(
        SELECT w.id FROM workers w LEFT JOIN beats b ON b.worker_id = w.id
         WHERE coalesce(abs(seconds_since_v1(coalesce(b.beat_at, w.started_at))) > 86400, true)))
$$;
