-- Does what force_unlock_workers does, and says more about it. Returns one row:
--   returned  for each job that it returned its id, kind, state (queued or failed) and last_error
--   workers   the workers that it found (named_workers_v1), one object each
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
    SELECT coalesce(pg_catalog.jsonb_agg(DISTINCT to_jsonb(n) - 'name'), '[]') INTO workers
      FROM :"schema".named_workers_v1(p_names) n;
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
