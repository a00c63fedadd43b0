-- Takes back expired leases at the word of an operator, at most p_limit in a call, and records it. Each worker does the same
-- every 2 s between its jobs (sweep_v1). It also removes the rows of workers that were silent for a day (forget_workers_v1).
--   p_earliest  what the clock shows, in seconds since 1970, by the caller's own clock. No lease that ends later counts as
--               expired. So if somebody sets the database's clock ahead, no living worker loses its jobs.
--   p_audit     the audit row, if the command has taken back leases in an earlier transaction
-- Returns one row:
--   returned    for each job its id, kind, state (queued or failed), leased_by (its former owner) and last_error
--   unexpired   the owners that do not live and whose leases have not expired: leased_by, worker, leases, and seconds until
--               the last of these leases ends
--   audit_id    the audit row; null if nothing was returned, also not earlier
--
-- It runs with the rights of the owner, so that an operator can return no lease without an audit row.
CREATE OR REPLACE FUNCTION sweep_leases_v1(
    p_reason text DEFAULT NULL, p_actor text DEFAULT session_user, p_earliest double precision DEFAULT NULL,
    p_audit bigint DEFAULT NULL, p_limit integer DEFAULT 2000,
    OUT returned jsonb, OUT unexpired jsonb, OUT audit_id bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    v_now  timestamptz := least(clock_timestamp(), to_timestamp(p_earliest));
    v_ids  bigint[] := :"schema".expired_leases_v1('-infinity', v_now, p_limit);
    v_from jsonb := (SELECT jsonb_object_agg(j.id, j.leased_by) FROM :"schema".jobs j WHERE j.id = ANY (v_ids));
    v_done record;
BEGIN
    SELECT * INTO v_done FROM :"schema".return_recorded_v1(
        v_ids, 'the lease expired: its owner died, hung or lost the database', 'sweep', '{}', p_reason, p_actor, p_audit);
    audit_id := v_done.audit_id;
    returned := (SELECT coalesce(jsonb_agg(jsonb_build_object(
                            'id', c.id, 'kind', c.kind, 'state', c.state, 'leased_by', v_from->c.id::text,
                            'last_error', c.last_error) ORDER BY c.id), '[]')
                   FROM unnest(v_done.changed) c);
    PERFORM :"schema".forget_workers_v1();
    unexpired := (SELECT coalesce(jsonb_agg(to_jsonb(o) ORDER BY o.leased_by), '[]')
                    FROM (SELECT j.leased_by, j.worker_id AS worker, count(*) AS leases,
                                 round(-min(:"schema".seconds_since_v1(j.lease_expires_at))::numeric, 1) AS seconds
                            FROM :"schema".jobs j LEFT JOIN :"schema".beats b ON b.worker_id = j.worker_id
                           WHERE j.state = 'processing' AND j.lease_expires_at > v_now
                             AND NOT :"schema".lives_v1(b.beat_at)
                           GROUP BY 1, 2) o);
END $$;
