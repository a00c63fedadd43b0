-- Lists the workers that an operator names: by uuid, by <host>:<pid>, or all of a host by <host>:*. A name that nobody has gives
-- no row.
-- A worker whose own row is gone is known by the leases that it left. It then has no beat, and no uuid if its leases have none.
-- A pid is used again, so several workers can have the same <host>:<pid>.
--   lives         its last beat shows that it lives (lives_v1)
--   beat_seconds  how long ago that beat was; null if there is none
-- Called by force_unlock_workers and unlock_workers_v1.
CREATE OR REPLACE FUNCTION named_workers_v1(p_names text[])
RETURNS TABLE (name text, id uuid, leased_by text, lives boolean, beat_seconds numeric)
LANGUAGE sql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $$
    SELECT DISTINCT n.name, o.id, o.leased_by, coalesce(:"schema".lives_v1(b.beat_at), false),
           round(:"schema".seconds_since_v1(b.beat_at)::numeric, 1)
      FROM unnest(p_names) n (name),
           (SELECT w.id, w.host || ':' || w.pid AS leased_by FROM :"schema".workers w
             UNION ALL
            SELECT j.worker_id, j.leased_by FROM :"schema".jobs j
             WHERE j.state = 'processing' AND NOT EXISTS (SELECT FROM :"schema".workers w WHERE w.id = j.worker_id)) o
           LEFT JOIN :"schema".beats b ON b.worker_id = o.id
     WHERE o.leased_by = n.name OR o.id::text = lower(n.name)
        OR n.name LIKE '%:*' AND regexp_replace(o.leased_by, ':[^:]*$', ':*') = n.name
     ORDER BY n.name, o.leased_by, o.id
$$;
