-- Ends the drains of workers that are gone, with an audit row for each.
-- Called by remove_workers_v1. It runs with the rights of the owner, so that a worker can end no other hold.
CREATE OR REPLACE FUNCTION forget_drains_v1() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
    WITH ended AS (
        DELETE FROM :"schema".holds h
         WHERE h.scope = 'worker' AND NOT EXISTS (SELECT FROM :"schema".workers w WHERE w.id::text = h.target)
        RETURNING *)
    INSERT INTO :"schema".audit (actor, action, target, reason, detail)
    SELECT 'shithubd-worker', 'expire', pg_catalog.concat_ws(' ', scope, target), reason,
           pg_catalog.jsonb_build_object('hold', id, 'set_by', actor, 'until', until)
      FROM ended
$$;

REVOKE EXECUTE ON FUNCTION forget_drains_v1() FROM PUBLIC;
