-- Takes away the rows of workers that were silent for a day (or whose last beat lies a day ahead: see lives_v1) and hold no
-- lease: nobody on their host came back. Where a beat is missing, the start counts as the last one.
CREATE OR REPLACE FUNCTION forget_workers_v1() RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    v_count integer;
BEGIN
    DELETE FROM workers w
     WHERE coalesce(abs(seconds_since_v1(coalesce((SELECT b.beat_at FROM beats b WHERE b.worker_id = w.id), w.started_at)))
                    > 86400, true)
       AND NOT EXISTS (SELECT FROM jobs j WHERE j.state = 'processing' AND j.worker_id = w.id);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    PERFORM forget_drains_v1();
    RETURN v_count;
END $$;
