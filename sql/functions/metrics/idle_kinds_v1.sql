-- Lists the kinds in leases_returned that have no job, and that no worker handles. Workers count until their row is removed.
-- place is the kind's place among all kinds there that no worker handles, in the order in which metrics name them.
-- Called by forget_kinds_v1.
CREATE OR REPLACE FUNCTION idle_kinds_v1() RETURNS TABLE (kind text, place bigint)
LANGUAGE sql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
    WITH handled AS MATERIALIZED (
        SELECT DISTINCT k.kind FROM :"schema".workers w, unnest(w.kinds) AS k (kind) WHERE k.kind IS NOT NULL
    ), leased AS MATERIALIZED (SELECT DISTINCT j.kind FROM :"schema".jobs j WHERE j.state = 'processing'),
    unhandled AS (
        SELECT r.kind, row_number() OVER (ORDER BY r.since, r.kind) AS place FROM :"schema".leases_returned r
         WHERE r.kind <> 'other' AND r.kind NOT IN (SELECT h.kind FROM handled h)
    )
    SELECT u.kind, u.place FROM unhandled u
     WHERE NOT EXISTS (SELECT FROM :"schema".jobs j WHERE j.state = 'queued' AND j.kind = u.kind)
       AND NOT EXISTS (SELECT FROM :"schema".jobs j WHERE j.state = 'paused' AND j.kind = u.kind)
       AND NOT EXISTS (SELECT FROM :"schema".jobs j WHERE j.state = 'failed' AND j.kind = u.kind)
       AND u.kind NOT IN (SELECT l.kind FROM leased l)
$$;
