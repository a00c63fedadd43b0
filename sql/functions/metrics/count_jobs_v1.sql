-- Counts the jobs of each kind, in parts: due, later, paused, failed, processing and expired.
-- due and later are both queued; due also has the oldest run_at. expired are some of processing. A part may have several
-- rows, which you add up, or none.
--
-- The cost does not grow with the queue. Counting stops at p_cap for each kind, priority and part; capped is true then.
-- Once p_total jobs were counted, it stops at 1,000, so that hundreds of long kinds cost no more than a few. The function
-- skips from kind to kind through the indexes of lease_v1 and resume-kind, even if the planner's statistics are wrong.
-- Deleted rows that cannot be cleaned, because somebody holds a snapshot, are walked over once and not for each figure:
-- v_first serves for that. Processing jobs are all counted: this figure decides, and they are no more than workers lease.
-- Called by kinds_v1 for an operator, and by recount_v1 for the metrics.
CREATE OR REPLACE FUNCTION count_jobs_v1(p_cap integer DEFAULT 100000, p_total integer DEFAULT 300000)
RETURNS TABLE (kind text, part text, jobs bigint, oldest timestamptz, capped boolean)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now      timestamptz := clock_timestamp();
    v_counted  bigint := 0;
    v_cap      bigint;
    v_kind     text := '';      -- below the least
    v_priority integer := 0;
    v_first    timestamptz;
    v_from     timestamptz;
    v_to       timestamptz;
    v_state    text;
    v_id       bigint;
BEGIN
    LOOP
        SELECT j.kind, j.priority, j.run_at INTO v_kind, v_priority, v_first FROM jobs j
         WHERE j.state = 'queued' AND (j.kind, j.priority) > (v_kind, v_priority)
         ORDER BY j.kind, j.priority, j.run_at LIMIT 1;
        EXIT WHEN v_kind IS NULL;
        kind := v_kind;
        FOR part, v_from, v_to IN
            VALUES ('due', v_first, v_now), ('later', greatest(v_first, v_now + interval '1 microsecond'), 'infinity')
        LOOP
            v_cap := least(p_cap, greatest(1000, p_total - v_counted));
            SELECT count(*), min(c.run_at) FILTER (WHERE part = 'due' AND isfinite(c.run_at)) INTO jobs, oldest
              FROM (SELECT j.run_at FROM jobs j
                     WHERE j.state = 'queued' AND j.kind = v_kind AND j.priority = v_priority
                       AND j.run_at BETWEEN v_from AND v_to
                     ORDER BY j.run_at LIMIT v_cap + 1) c;
            CONTINUE WHEN jobs = 0;
            capped := jobs > v_cap;
            jobs := least(jobs, v_cap);
            v_counted := v_counted + jobs;
            RETURN NEXT;
        END LOOP;
    END LOOP;

    oldest := NULL;
    FOREACH v_state IN ARRAY ARRAY['paused', 'failed'] LOOP
        part := v_state;
        v_kind := '';
        LOOP
            -- The second condition tells the planner that jobs_parked has all of these rows. The order by kind and id keeps it
            -- from a walk over all jobs in the order of ids.
            SELECT j.kind, j.id INTO v_kind, v_id FROM jobs j
             WHERE j.state = v_state AND j.state IN ('paused', 'failed') AND j.kind > v_kind
             ORDER BY j.kind, j.id LIMIT 1;
            EXIT WHEN v_kind IS NULL;
            v_cap := least(p_cap, greatest(1000, p_total - v_counted));
            SELECT count(*) INTO jobs
              FROM (SELECT FROM jobs j
                     WHERE j.state = v_state AND j.state IN ('paused', 'failed')
                       AND (j.kind, j.id) >= (v_kind, v_id) AND (j.kind, j.id) <= (v_kind, 9223372036854775807)
                     ORDER BY j.kind, j.id LIMIT v_cap + 1) c;
            kind := v_kind;
            capped := jobs > v_cap;
            jobs := least(jobs, v_cap);
            v_counted := v_counted + jobs;
            RETURN NEXT;
        END LOOP;
    END LOOP;

    RETURN QUERY
    SELECT r.kind, p.part, p.jobs, NULL::timestamptz, false
      FROM (SELECT j.kind, count(*) AS processing,
                   count(*) FILTER (WHERE coalesce(j.lease_expires_at, '-infinity'::timestamptz) <= v_now) AS expired
              FROM jobs j WHERE j.state = 'processing' GROUP BY j.kind) r,
           LATERAL (VALUES ('processing', r.processing), ('expired', r.expired)) AS p (part, jobs);
END $$;
