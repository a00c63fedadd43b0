-- Explains why a job does not run, as a JSON object. Null for an id that never existed, or whose history was dropped.
--   job      its row in jobs, without payload and token; once that is gone, its last row in the history, without payload
--   verdict  leasable: the next lease of a free worker takes it, after the jobs that come before it
--            waits: something is in the way. runs: a worker has it. failed. done: it has left the queue
--   checks   what lease_v1 asks before it takes a job, one after the other. Each has check, ok, since, and facts. ok false: this is
--            in the way; since says since when, or is null if nobody knows. A job that runs or has left the queue has the
--            check state alone. In the order in which an operator can change them: tables and locked (lock_checks_v1), state
--            (state_check_v1), hold (hold_check_v1), run_at (due_check_v1), drains, workers and busy (worker_checks_v1), alone.
--            alone is never in the way: with alone or crashes, the job is leased in a turn of its own
--   place    how many due jobs of its kind come before it (ahead_v1), plus one. Null while it is not queued, not due or paused.
--            ahead_capped: at least so many
--   eta_seconds, eta_window  in how many seconds its turn comes at the rate at which jobs of the kind ended (rate_v1). Null if
--            something else is in the way, or no rate is known
-- It reads a few rows, and at most 100,000 entries of an index for the place, and writes and locks nothing. A job that the
-- database refuses to lease, because of a trigger of the application, looks leasable here: only the workers know, and log it.
-- A job looks leasable, too, while somebody has locked the row of its ramp: leases lock that row for milliseconds themselves.
CREATE OR REPLACE FUNCTION explain_job_v1(p_id bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
DECLARE
    v_job     jobs;
    v_xmax    xid;
    v_shown   jsonb;
    v_state   jsonb;
    v_due     jsonb;
    v_hold    jsonb;
    v_workers record;
    v_checks  jsonb;
    v_most    integer := 100000;
    v_ahead   bigint;
    v_way     text[];
    v_rate    record;
    v_placed  boolean;
BEGIN
    SELECT j.* INTO v_job FROM jobs j WHERE j.id = p_id;
    SELECT j.xmax INTO v_xmax FROM jobs j WHERE j.id = p_id;
    IF v_job.id IS NULL THEN
        SELECT to_jsonb(e) || jsonb_build_object('id', p_id) INTO v_shown FROM last_end_v1(p_id) e;
        RETURN CASE WHEN v_shown IS NOT NULL THEN jsonb_build_object(
            'job', v_shown, 'verdict', 'done', 'checks', jsonb_build_array(jsonb_build_object(
                'check', 'state', 'ok', false, 'since', v_shown->'finished_at', 'state', 'done', 'outcome', v_shown->'outcome',
                'by', v_shown->'leased_by', 'error', v_shown->'error')),
            'place', NULL, 'ahead_capped', false, 'eta_seconds', NULL, 'eta_window', NULL) END;
    END IF;
    v_job.payload := NULL;
    v_shown := shown_job_v1(v_job, 0) - '{payload,payload_cut,lease_token}'::text[];
    v_state := state_check_v1(v_job);
    IF v_job.state = 'processing' THEN
        RETURN jsonb_build_object('job', v_shown, 'verdict', 'runs', 'checks', jsonb_build_array(v_state),
                                  'place', NULL, 'ahead_capped', false, 'eta_seconds', NULL, 'eta_window', NULL);
    END IF;
    v_due := due_check_v1(v_job);
    v_workers := worker_checks_v1(v_job.kind);
    -- Of a job that is not due: those that would come before it after a retry, which makes it due now.
    v_ahead := ahead_v1(v_job.kind, v_job.priority, least(v_job.run_at, clock_timestamp()), v_job.id, v_most);
    v_hold := hold_check_v1(v_job.kind, v_ahead, v_workers.best);
    v_placed := v_job.state = 'queued' AND (v_due->>'ok')::boolean AND v_hold->>'why' IS DISTINCT FROM 'paused';
    v_checks := lock_checks_v1(v_xmax)
        || jsonb_build_array(v_state, v_hold, v_due, v_workers.checks->1, v_workers.checks->0, v_workers.checks->2,
                             jsonb_build_object('check', 'alone', 'ok', true, 'since', NULL, 'crashes', v_job.crashes,
                                                'alone', v_job.alone OR v_job.crashes > 0));
    v_way := ARRAY(SELECT c.object->>'check' FROM jsonb_array_elements(v_checks) AS c (object)
                    WHERE NOT (c.object->>'ok')::boolean);
    IF v_placed AND v_way <@ '{busy}'::text[] THEN
        SELECT r.per_second, r."window" INTO v_rate FROM rate_v1(v_job.kind) r WHERE r.per_second > 0;
    ELSE
        SELECT NULL::double precision AS per_second, NULL::text AS "window" INTO v_rate;
    END IF;
    RETURN jsonb_build_object(
        'job', v_shown,
        'verdict', CASE WHEN v_job.state = 'failed' THEN 'failed' WHEN v_way = '{}' THEN 'leasable' ELSE 'waits' END,
        'checks', v_checks,
        'place', CASE WHEN v_placed THEN least(v_ahead, v_most) + 1 END,
        'ahead_capped', v_placed AND v_ahead > v_most,
        'eta_seconds', CASE WHEN v_rate.per_second IS NOT NULL
                            THEN round(((least(v_ahead, v_most) + 1) / v_rate.per_second)::numeric, 1) END,
        'eta_window', v_rate."window");
END $$;
