-- Counts the due jobs of a kind that come before a job: those of a lower priority number, and those of its own priority that
-- were due earlier. A lease takes them in this order. It counts at most p_cap; one more means that there are more.
-- It goes from priority to priority, as lease_v1 does, so that it reads no job that is not due: of each priority only the first.
-- After 1,000 priorities it ends, as if the cap were reached. Called by explain_job_v1.
CREATE OR REPLACE FUNCTION ahead_v1(
    p_kind text, p_priority smallint, p_run_at timestamptz, p_id bigint, p_cap integer DEFAULT 100000
) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
DECLARE
    v_now      timestamptz := clock_timestamp();
    v_count    bigint;
    v_ahead    bigint := 0;
    v_steps    integer := 0;
    v_priority integer := -32769;
BEGIN
    LOOP
        SELECT j.priority INTO v_priority FROM jobs j
         WHERE j.state = 'queued' AND j.kind = p_kind AND j.priority > v_priority AND j.priority < p_priority
         ORDER BY j.priority LIMIT 1;
        EXIT WHEN NOT FOUND;
        v_steps := v_steps + 1;
        SELECT count(*) INTO v_count
          FROM (SELECT FROM jobs j
                 WHERE j.state = 'queued' AND j.kind = p_kind AND j.priority = v_priority AND j.run_at <= v_now
                 ORDER BY j.run_at LIMIT p_cap + 1 - v_ahead) c;
        v_ahead := v_ahead + v_count;
        IF v_ahead > p_cap OR v_steps >= 1000 THEN
            RETURN p_cap + 1;
        END IF;
    END LOOP;
    SELECT count(*) INTO v_count
      FROM (SELECT FROM jobs j
             WHERE j.state = 'queued' AND j.kind = p_kind AND j.priority = p_priority AND (j.run_at, j.id) < (p_run_at, p_id)
               AND j.run_at <= v_now
             ORDER BY j.run_at, j.id LIMIT p_cap + 1 - v_ahead) c;
    RETURN v_ahead + v_count;
END $$;
