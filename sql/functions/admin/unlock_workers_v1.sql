-- Does what force_unlock_workers does, and says more about it. Returns one row:
--   returned  for each job that it returned its id, kind, state (queued or failed) and last_error
--   workers   the workers that it found (named_workers_v1), one object each. It also has job_id and job_kind, the job that it ran
--             when it beat last (workers_v1), and may_run_seconds. For so long it may go on with a run, if it lives and is only cut
--             off: until its leases end, or until it gives up. Null if it has no lease.
--   unknown   the names that no worker has, and no lease
--   left_over how many leases of those that do not live are left: somebody has locked their jobs, or the database refuses
-- Called by the command.
CREATE OR REPLACE FUNCTION unlock_workers_v1(
    p_names text[], p_accept_second_run boolean, p_reason text, p_actor text,
    OUT returned jsonb, OUT workers jsonb, OUT unknown jsonb, OUT left_over bigint
)
LANGUAGE plpgsql SET search_path = pg_catalog, :"schema", pg_temp SET enable_seqscan = off SET jit = off
AS $$
BEGIN
    SELECT coalesce(pg_catalog.jsonb_agg(DISTINCT to_jsonb(n) - 'name' || pg_catalog.jsonb_build_object(
               'job_id', w->'job_id', 'job_kind', w->'job_kind',
               'may_run_seconds', least(l.seconds, (w->>'gives_up_seconds')::numeric))), '[]') INTO workers
      FROM :"schema".named_workers_v1(p_names) n
           LEFT JOIN :"schema".workers_v1() w ON w->>'id' = n.id::text
           LEFT JOIN LATERAL (
               SELECT round(-min(:"schema".seconds_since_v1(j.lease_expires_at))::numeric, 1) AS seconds FROM :"schema".jobs j
                WHERE j.state = 'processing' AND (j.worker_id = n.id OR j.worker_id IS NULL AND n.id IS NULL
                                                                        AND j.leased_by = n.leased_by)) l ON true;
    SELECT coalesce(pg_catalog.jsonb_agg(u.name ORDER BY u.name), '[]') INTO unknown
      FROM (SELECT DISTINCT pg_catalog.unnest(p_names) AS name EXCEPT
            SELECT n.name FROM :"schema".named_workers_v1(p_names) n) u;
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'id', j.id, 'kind', j.kind, 'state', j.state, 'last_error', j.last_error) ORDER BY j.id), '[]')
      INTO returned FROM :"schema".force_unlock_workers(p_names, p_accept_second_run, p_reason, p_actor) j;
    SELECT count(*) INTO left_over
      FROM :"schema".jobs j, pg_catalog.jsonb_array_elements(workers) w
     WHERE j.state = 'processing' AND NOT (w->>'lives')::boolean
       AND (j.worker_id = (w->>'id')::uuid OR j.worker_id IS NULL AND w->>'id' IS NULL AND j.leased_by = w->>'leased_by');
END $$;
