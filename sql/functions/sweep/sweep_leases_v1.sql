-- Takes jobs back at the word of an operator, and records it: jobs with expired leases, at most p_limit in a call, and with
-- p_stale_after the jobs of silent workers. Workers do the same between their jobs (sweep_v1, sweep_silent_v1). It also removes the
-- rows of workers that were silent for a day (forget_workers_v1).
--   p_earliest     what the clock shows, in seconds since 1970, by the caller's own clock. No lease that ends later counts as
--                  expired, and no later beat as old. So if somebody sets the database's clock ahead, no living worker loses
--                  its jobs.
--   p_audit        the audit row, if the command has taken back jobs in an earlier transaction
--   p_stale_after  take all jobs of workers that gave no sign of life for so many seconds, and for the time after which they
--                  give up (silent_workers_v1). Null: of none.
--   p_accept_second_run  with p_stale_after: it alone counts. The worker may still run its job beside the next one.
--   p_delay        a job that returns runs again this many seconds later at the earliest
-- Returns one row:
--   returned    for each job its id, kind, state (queued or failed), leased_by (its former owner) and last_error
--   unexpired   the owners that do not live and whose leases have not expired: leased_by, worker, leases, seconds until
--               the last of these leases ends, silent (seconds since the last sign of life, see silent_workers_v1) and
--               gives_up; null: it promised nothing
--   workers     the silent workers: id, leased_by, and seconds since the last beat
--   audit_id    the audit row; null if nothing was returned, also not earlier
--
-- It runs with the rights of the owner, so that an operator can return no lease without an audit row. It waits for another
-- sweeper.
CREATE OR REPLACE FUNCTION sweep_leases_v1(
    p_reason text DEFAULT NULL, p_actor text DEFAULT session_user, p_earliest double precision DEFAULT NULL,
    p_audit bigint DEFAULT NULL, p_limit integer DEFAULT 2000,
    p_stale_after double precision DEFAULT NULL, p_accept_second_run boolean DEFAULT false, p_delay double precision DEFAULT 0,
    OUT returned jsonb, OUT unexpired jsonb, OUT workers jsonb, OUT audit_id bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    v_now     timestamptz;
    v_ids     bigint[];
    v_silent  record;
    v_from    jsonb;
    v_done    record;
    v_error   text;
    v_detail  jsonb;
BEGIN
    PERFORM FROM :"schema".sweeper FOR UPDATE;
    v_now := least(clock_timestamp(), to_timestamp(p_earliest));
    audit_id := p_audit;
    returned := '[]';
    workers := '[]';
    v_detail := jsonb_strip_nulls(jsonb_build_object(
        'stale_after', p_stale_after, 'delay', nullif(p_delay, 0), 'accept_second_run', nullif(p_accept_second_run, false)));
    FOR v_silent IN
        SELECT NULL::uuid AS id, NULL::text AS leased_by, NULL::double precision AS seconds, NULL::bigint[] AS jobs
         UNION ALL
        SELECT s.* FROM :"schema".silent_workers_v1(p_stale_after, v_now, p_accept_second_run, p_limit => p_limit) s
          WHERE p_stale_after IS NOT NULL
    LOOP
        IF v_silent.id IS NULL THEN
            v_ids := :"schema".expired_leases_v1('-infinity', v_now, p_limit);
            v_error := 'the lease expired: its owner died, hung or lost the database';
        ELSE
            workers := workers || (to_jsonb(v_silent) - 'jobs');
            v_ids := v_silent.jobs;
            v_error := format('its worker %s was silent for %s s', v_silent.leased_by, round(v_silent.seconds));
        END IF;
        v_from := (SELECT jsonb_object_agg(j.id, j.leased_by) FROM :"schema".jobs j WHERE j.id = ANY (v_ids));
        SELECT * INTO v_done FROM :"schema".return_recorded_v1(
            v_ids, v_error, 'sweep', v_detail, p_reason, p_actor, audit_id, p_delay);
        audit_id := v_done.audit_id;
        returned := returned || (SELECT coalesce(jsonb_agg(jsonb_build_object(
                        'id', c.id, 'kind', c.kind, 'state', c.state, 'leased_by', v_from->c.id::text,
                        'last_error', c.last_error) ORDER BY c.id), '[]')
                   FROM unnest(v_done.changed) c);
        IF v_silent.id IS NOT NULL THEN
            PERFORM :"schema".forget_silent_v1(v_silent.id);
        END IF;
    END LOOP;
    PERFORM :"schema".forget_workers_v1();
    unexpired := (SELECT coalesce(jsonb_agg(to_jsonb(o) ORDER BY o.leased_by), '[]')
                    FROM (SELECT j.leased_by, j.worker_id AS worker, count(*) AS leases,
                                 round(-min(:"schema".seconds_since_v1(j.lease_expires_at))::numeric, 1) AS seconds,
                                 round(least(min(:"schema".seconds_since_v1(b.beat_at)),
                                             min(:"schema".seconds_since_v1(j.leased_at)))::numeric, 1) AS silent,
                                 min(w.gives_up) AS gives_up
                            FROM :"schema".jobs j LEFT JOIN :"schema".beats b ON b.worker_id = j.worker_id
                                 LEFT JOIN :"schema".workers w ON w.id = j.worker_id
                           WHERE j.state = 'processing' AND j.lease_expires_at > v_now
                             AND NOT :"schema".lives_v1(b.beat_at)
                           GROUP BY 1, 2) o);
END $$;
