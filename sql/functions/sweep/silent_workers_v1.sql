-- Lists the workers that gave no sign of life for p_threshold seconds, and locks their beats.
-- A sign of life is a beat, or a lease: a worker whose control thread cannot connect still leases. A worker is in the list only
-- after the time that it wrote into its row (gives_up): by then it has given up its run. A worker that wrote none is not in the
-- list. With p_accept both do not count: such a worker may still run a job. A beat in the future is no silence. The lock on
-- the beats makes sure that the worker does not come back at this moment; a worker whose beats somebody has locked is left out.
-- p_now is the time that counts. For p_steady seconds the clock was not set, as far as the caller knows: a longer silence is not
-- certain. Called by sweep_silent_v1 and sweep_leases_v1.
CREATE OR REPLACE FUNCTION silent_workers_v1(p_threshold double precision, p_now timestamptz, p_accept boolean DEFAULT false,
                                             p_steady double precision DEFAULT 'infinity')
RETURNS TABLE (id uuid, leased_by text, seconds double precision)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $$
    SELECT w.id, w.host || ':' || w.pid, date_part('epoch', p_now) - date_part('epoch', b.beat_at)
      FROM :"schema".beats b JOIN :"schema".workers w ON w.id = b.worker_id,
           LATERAL (SELECT CASE WHEN p_accept THEN p_threshold ELSE greatest(p_threshold, w.gives_up) END AS seconds) n
     WHERE isfinite(b.beat_at)
       AND (p_accept OR w.gives_up IS NOT NULL)
       AND n.seconds <= p_steady
       AND date_part('epoch', p_now) - date_part('epoch', b.beat_at) >= n.seconds
       AND NOT EXISTS (SELECT FROM :"schema".jobs j
                        WHERE j.state = 'processing' AND j.worker_id = w.id
                          AND date_part('epoch', p_now) - date_part('epoch', j.leased_at) < n.seconds)
       FOR UPDATE OF b SKIP LOCKED
$$;
