-- Counts the jobs of each kind, in parts. A part may have several rows, which you add up, or none.
--   due, later   queued; due also has the oldest run_at
--   retry        some of these two: they ran before, and will run again. It also has the next one: its run_at and its id
--   paused, failed
--   processing   leased; of these, expired ones, and in running at most how many run (leases_v1 has the details)
--
-- The cost does not grow with the queue. Counting stops at p_cap for each kind, priority and part; capped is true then.
-- Once p_total jobs were counted, it stops at 1,000, so that hundreds of long kinds cost no more than a few. After twice as
-- many it stops at 10, so that thousands of kinds do not cost much more. The kinds that a sample of the table finds most
-- often are counted up to 1,000 even then. After 50,000 pairs of a kind and a priority it looks at one priority of each
-- kind. After 100,000 it ends: rows without a kind then say that there are more. Each part that may be too low is capped, a 0
-- too. Of due or later, capped stands for retry as well.
-- The function skips from kind to kind through the indexes of lease_v1 and resume-kind, even if the planner's statistics are
-- wrong. Deleted rows that cannot be cleaned, because somebody holds a snapshot, are walked over once and not for each
-- figure: v_first serves for that. Processing jobs are all counted: this figure decides, and they are no more than workers
-- lease.
-- p_kind limits it to one kind. Called by kinds_v1 for an operator, and by recount_v1 for the metrics.
CREATE OR REPLACE FUNCTION count_jobs_v1(
    p_cap integer DEFAULT 100000, p_total integer DEFAULT 300000, p_kind text DEFAULT NULL
) RETURNS TABLE (kind text, part text, jobs bigint, oldest timestamptz, capped boolean, id bigint)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now      timestamptz := clock_timestamp();
    v_later    timestamptz := v_now + interval '1 microsecond';
    v_counted  bigint := 0;
    v_steps    integer := 0;
    v_large    text[];      -- the kinds that a sample found most often
    v_cap      bigint;
    v_kind     text := coalesce(p_kind, '');  -- '' is below the least
    v_priority integer := CASE WHEN p_kind IS NULL THEN 0 ELSE -32769 END;
    v_first    timestamptz;
    v_all      bigint;
    v_due      bigint;
    v_oldest   timestamptz;
    v_retries  bigint;
    v_retry    timestamptz;
    v_more     bigint;      -- retries that are not due, and the first of them
    v_next     timestamptz;
    v_state    text;
    v_id       bigint;
BEGIN
    LOOP
        SELECT j.kind, j.priority, j.run_at INTO v_kind, v_priority, v_first FROM jobs j
         WHERE j.state = 'queued' AND (j.kind, j.priority) > (v_kind, v_priority)
         ORDER BY j.kind, j.priority, j.run_at LIMIT 1;
        EXIT WHEN v_kind IS NULL OR v_kind <> p_kind;
        v_steps := v_steps + 1;
        EXIT WHEN v_steps > 100000;
        IF v_large IS NULL AND v_counted >= 2 * p_total THEN
            v_large := ARRAY(SELECT s.kind  -- of a thousand pages
                               FROM jobs s TABLESAMPLE system (least(100, 819200000.0 / greatest(pg_relation_size('jobs'), 1)))
                              GROUP BY s.kind ORDER BY count(*) DESC LIMIT 50);
        END IF;
        v_cap := CASE WHEN v_counted < 2 * p_total OR v_kind = ANY (v_large) THEN 1000 ELSE 10 END;
        v_cap := least(p_cap, greatest(v_cap, p_total - v_counted));

        SELECT count(*), count(*) FILTER (WHERE c.due), min(c.run_at) FILTER (WHERE c.due AND isfinite(c.run_at)),
               count(*) FILTER (WHERE c.again AND c.due), min(c.run_at) FILTER (WHERE c.again AND c.due),
               count(*) FILTER (WHERE c.again AND NOT c.due), min(c.run_at) FILTER (WHERE c.again AND NOT c.due)
          INTO v_all, v_due, v_oldest, v_retries, v_retry, v_more, v_next
          FROM (SELECT j.run_at, j.run_at <= v_now AS due, j.attempts > 0 OR j.crashes > 0 AS again FROM jobs j
                 WHERE j.state = 'queued' AND j.kind = v_kind AND j.priority = v_priority AND j.run_at >= v_first
                 ORDER BY j.run_at LIMIT v_cap + 1) c;
        kind := v_kind;
        IF v_due > 0 THEN
            part := 'due';
            jobs := least(v_due, v_cap);
            oldest := v_oldest;
            capped := v_due > v_cap;
            v_counted := v_counted + jobs;
            RETURN NEXT;
        END IF;
        jobs := v_all - v_due;
        capped := false;
        IF v_all > v_cap THEN  -- the scan stopped before the last of them
            SELECT count(*), count(*) FILTER (WHERE c.again), min(c.run_at) FILTER (WHERE c.again)
              INTO jobs, v_more, v_next
              FROM (SELECT j.run_at, j.attempts > 0 OR j.crashes > 0 AS again FROM jobs j
                     WHERE j.state = 'queued' AND j.kind = v_kind AND j.priority = v_priority
                       AND j.run_at >= greatest(v_first, v_later)
                     ORDER BY j.run_at LIMIT v_cap + 1) c;
            capped := jobs > v_cap;
        END IF;
        oldest := NULL;
        IF jobs > 0 THEN
            part := 'later';
            jobs := least(jobs, v_cap);
            v_counted := v_counted + jobs;
            RETURN NEXT;
        END IF;
        IF v_retries + v_more > 0 THEN
            part := 'retry';
            jobs := v_retries + v_more;
            oldest := least(v_retry, v_next);
            capped := capped OR v_due > v_cap;
            SELECT j.id INTO id FROM jobs j
             WHERE j.state = 'queued' AND j.kind = v_kind AND j.priority = v_priority AND j.run_at >= oldest
               AND (j.attempts > 0 OR j.crashes > 0)
             ORDER BY j.run_at LIMIT 1;
            RETURN NEXT;
            id := NULL;
            oldest := NULL;
        END IF;
        IF v_steps > 50000 THEN
            jobs := 0;
            capped := true;
            FOREACH part IN ARRAY ARRAY['due', 'later'] LOOP
                EXIT WHEN NOT EXISTS (SELECT FROM jobs j
                                       WHERE j.state = 'queued' AND j.kind = v_kind AND j.priority > v_priority);
                RETURN NEXT;
            END LOOP;
            v_priority := 32767;  -- the next kind
        END IF;
    END LOOP;

    FOREACH v_state IN ARRAY ARRAY['paused', 'failed'] LOOP
        part := v_state;
        v_kind := coalesce(p_kind, '');
        v_id := CASE WHEN p_kind IS NULL THEN 9223372036854775807 ELSE -9223372036854775808 END;
        LOOP
            -- The second condition tells the planner that jobs_parked has all of these rows. The order by kind and id keeps it
            -- from a walk over all jobs in the order of ids.
            SELECT j.kind, j.id INTO v_kind, v_id FROM jobs j
             WHERE j.state = v_state AND j.state IN ('paused', 'failed') AND (j.kind, j.id) > (v_kind, v_id)
             ORDER BY j.kind, j.id LIMIT 1;
            EXIT WHEN v_kind IS NULL OR v_kind <> p_kind;
            v_steps := v_steps + 1;
            EXIT WHEN v_steps > 100000;
            v_cap := CASE WHEN v_counted < 2 * p_total OR v_kind = ANY (v_large) THEN 1000 ELSE 10 END;
            v_cap := least(p_cap, greatest(v_cap, p_total - v_counted));
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
            EXIT WHEN p_kind IS NOT NULL;
            v_id := 9223372036854775807;
        END LOOP;
    END LOOP;
    IF v_steps > 100000 THEN
        kind := NULL;
        jobs := 0;
        capped := true;
        FOREACH part IN ARRAY ARRAY['due', 'later', 'paused', 'failed'] LOOP
            RETURN NEXT;
        END LOOP;
    END IF;

    RETURN QUERY
    SELECT l.kind, p.part, p.jobs, NULL::timestamptz, false, NULL::bigint
      FROM (SELECT j.kind, count(*) AS processing,
                   count(*) FILTER (WHERE coalesce(j.lease_expires_at, '-infinity'::timestamptz) <= v_now) AS expired,
                   count(DISTINCT coalesce(j.worker_id::text, j.leased_by)) FILTER (
                       WHERE r.job_id IS NULL OR r.job_id = j.id) AS running
              FROM jobs j LEFT JOIN running_v1() r ON r.worker_id = j.worker_id
             WHERE j.state = 'processing' AND (p_kind IS NULL OR j.kind = p_kind)
             GROUP BY j.kind) l,
           LATERAL (VALUES ('processing', l.processing), ('expired', l.expired), ('running', l.running)) AS p (part, jobs);
END $$;
