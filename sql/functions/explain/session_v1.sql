-- Describes a session, or a prepared transaction, as a JSON object.
--   pid      0: a prepared transaction, which belongs to no session; prepared is its name
--   since    when its transaction began, and seconds for how long it has run. Null, as state and query, if this login may not
--            look at the session (it is another login's, and ours is no member of pg_read_all_stats)
--   login, program, address, state, query (at most 1,000 characters), kind (of its backend)
-- Called by locker_v1 and lock_checks_v1. p_pid is null for the prepared transaction p_transaction, as in pg_locks.
CREATE OR REPLACE FUNCTION session_v1(p_pid integer, p_transaction text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
    SELECT jsonb_build_object(
               'pid', coalesce(p_pid, 0), 'login', coalesce(a.usename, p.owner), 'program', a.application_name,
               'address', host(a.client_addr), 'state', a.state, 'kind', a.backend_type,
               'query', CASE WHEN a.state IS NOT NULL THEN left(a.query, 1000) END, 'prepared', p.gid,
               'since', readable_v1(coalesce(a.xact_start, p.prepared)), 'seconds', seconds_since_v1(coalesce(a.xact_start, p.prepared)))
      FROM (SELECT) o LEFT JOIN pg_stat_activity a ON a.pid = p_pid
           LEFT JOIN pg_prepared_xacts p ON p_pid IS NULL AND p.transaction::text = p_transaction
$$;
