-- Lists the workers that gave no sign of life for p_threshold seconds, and locks their beats and their jobs.
-- A sign of life is a beat, or a lease: a worker whose control thread cannot connect still leases. A worker is in the list only
-- after the time that it wrote into its row (gives_up): by then it has given up its run. A worker that wrote none is not in the
-- list. With p_accept both do not count: such a worker may still run a job. A beat in the future is no silence. The lock on
-- the beats makes sure that the worker beats no more until its jobs are back; a worker whose beats somebody has locked is left
-- out. A beat and a lease take no lock of each other, so the worker may lease at this very moment. Then it may run that job, so
-- the job is not in the list. Also not in the list are jobs that somebody has locked.
-- p_now is the time that counts. For p_steady seconds the clock was not set, as far as the caller knows: a longer silence is not
-- certain. The list ends with the worker that has the job number p_limit. So the answer fits the buffers of a socket that nobody
-- reads, and a caller that stands still keeps no lock. Called by sweep_silent_v1 and sweep_leases_v1.
CREATE OR REPLACE FUNCTION silent_workers_v1(p_threshold double precision, p_now timestamptz, p_accept boolean DEFAULT false,
                                             p_steady double precision DEFAULT 'infinity', p_limit integer DEFAULT 2000)
RETURNS TABLE (id uuid, leased_by text, seconds double precision, jobs bigint[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now    double precision := date_part('epoch', p_now);
    v_silent record;
    v_found  integer := 0;
BEGIN
    FOR v_silent IN
        SELECT w.id, w.host || ':' || w.pid AS leased_by, v_now - date_part('epoch', b.beat_at) AS seconds, n.seconds AS needs
          FROM :"schema".beats b JOIN :"schema".workers w ON w.id = b.worker_id,
               LATERAL (SELECT CASE WHEN p_accept THEN p_threshold ELSE greatest(p_threshold, w.gives_up) END AS seconds) n
         WHERE isfinite(b.beat_at)
           AND (p_accept OR w.gives_up IS NOT NULL)
           AND n.seconds <= p_steady
           AND v_now - date_part('epoch', b.beat_at) >= n.seconds
           AND NOT EXISTS (SELECT FROM :"schema".jobs j
                            WHERE j.state = 'processing' AND j.worker_id = w.id
                              AND v_now - date_part('epoch', j.leased_at) < n.seconds)
           FOR UPDATE OF b SKIP LOCKED
    LOOP
        id := v_silent.id;
        leased_by := v_silent.leased_by;
        seconds := v_silent.seconds;
        jobs := (SELECT array_agg(l.id)
                   FROM (SELECT j.id FROM :"schema".jobs j
                          WHERE j.state = 'processing' AND j.worker_id = v_silent.id
                            AND v_now - date_part('epoch', j.leased_at) >= v_silent.needs
                            FOR UPDATE SKIP LOCKED) l);
        RETURN NEXT;
        v_found := v_found + coalesce(cardinality(jobs), 0);
        EXIT WHEN v_found >= p_limit;
    END LOOP;
END $$;
