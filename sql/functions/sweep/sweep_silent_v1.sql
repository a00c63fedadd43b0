-- Takes all jobs back from workers that fell silent (silent_workers_v1), and removes the rows of these workers (forget_silent_v1).
-- One worker of the fleet sweeps at a time, because it locks the row of sweeper, and at most once in p_interval seconds.
-- For another caller, or earlier, the function does nothing. It waits for no lock of a row.
--   p_worker     who sweeps
--   p_threshold  for how many seconds a worker must have been silent, and at least for the time in its own row
--   p_delay      a job that returns runs again this many seconds later at the earliest
--   p_earliest   what the clock shows at least, in seconds since 1970, by the caller's own clock, as in sweep_v1
--   p_steady     for how many seconds the caller has seen that nobody set the clock (silent_workers_v1)
-- Returns the jobs, with what became of each (return_crashed_v1), and their former owner. A job that somebody has locked, or that
-- the database refuses to return, keeps its lease, and its worker keeps its row until the next sweep.
-- Called by the main thread of a worker, between two of its jobs.
CREATE OR REPLACE FUNCTION sweep_silent_v1(
    p_worker uuid, p_threshold double precision, p_delay double precision, p_interval double precision,
    p_earliest double precision DEFAULT NULL, p_steady double precision DEFAULT 'infinity'
) RETURNS TABLE (id bigint, kind text, outcome text, leased_by text)
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now    timestamptz := least(clock_timestamp(), to_timestamp(p_earliest));
    v_silent record;
BEGIN
    PERFORM FROM sweeper s
      WHERE NOT isfinite(s.swept_at) OR abs(seconds_since_v1(s.swept_at)) >= p_interval
        FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE sweeper SET swept_at = clock_timestamp(),
                       swept_by = (SELECT w.host || ':' || w.pid FROM workers w WHERE w.id = p_worker);
    FOR v_silent IN SELECT * FROM silent_workers_v1(p_threshold, v_now, p_steady => p_steady) s WHERE s.id <> p_worker LOOP
        IF v_silent.jobs IS NOT NULL THEN
            PERFORM wake_v1();
            RETURN QUERY
            SELECT r.id, r.kind, r.outcome, v_silent.leased_by
              FROM return_dead_v1(v_silent.jobs, format('its worker %s was silent for %s s', v_silent.leased_by,
                                                        round(v_silent.seconds)), p_delay) r;
        END IF;
        PERFORM forget_silent_v1(v_silent.id);
    END LOOP;
END $$;
