-- Explains which worker could lease a job of a kind, as three checks of explain_job_v1.
-- Returns them in checks, and in best the uuid of the worker that would be free first (null: there is none).
--   workers  does a living worker know the kind? living is how many do, and silent how many did until their beats ended; who
--            has the five of these that beat last; drained: a drain of the host or unit covers them. stopping: they live, and
--            lease no more. If nobody knows the kind, kinds are those that living workers know, at most 1,000.
--   drains   is each of these workers drained? drained is how many are. holds are the drains (shown_hold_v1) to end for the
--            worker that the fewest cover. So each of them is in the way, and without them that worker leases. If there is no
--            worker, it is the drain of the fleet, which covers each new one, too.
--   busy     does each of these, without a drain, run another job? busy is how many do, free how many do not, and who has five
--            that do: those that have run longest. A worker that is not at work, because it starts, has lost the database or is
--            refused by it, is in the list with that state.
-- A worker runs one job at a time. One that has run its job for less than 0.5 s counts as free.
CREATE OR REPLACE FUNCTION worker_checks_v1(p_kind text, OUT checks jsonb, OUT best uuid)
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET enable_seqscan = off SET jit = off
AS $$
    WITH known AS MATERIALIZED (
        SELECT w.id, w.host || ':' || w.pid AS leased_by, w.unit, coalesce(b.state, 'silent') AS state, b.beat_at,
               lives_v1(b.beat_at) AS lives, lives_v1(b.beat_at) AND b.state <> 'stopping' AS leases,
               b.job_kind, b.job_since
          FROM workers w LEFT JOIN beats b ON b.worker_id = w.id WHERE p_kind = ANY (w.kinds)
    ), fleet AS (
        SELECT ARRAY(SELECT h.id FROM standing_holds h WHERE h.scope = 'fleet') AS holds,
               EXISTS (SELECT FROM standing_holds h WHERE h.scope <> 'kind') AS stands
    ), working AS MATERIALIZED (
        SELECT DISTINCT j.worker_id FROM jobs j WHERE j.state = 'processing' AND j.kind = p_kind
    ), able AS MATERIALIZED (
        SELECT k.*, r.job_id, c.holds,
               r.job_id IS NOT NULL OR k.state IN ('starting', 'pausing', 'reconnecting') AS busy,
               k.id IN (SELECT g.worker_id FROM working g WHERE g.worker_id IS NOT NULL) AS working
          FROM known k LEFT JOIN running_v1() r ON r.worker_id = k.id,
               LATERAL (SELECT CASE WHEN (SELECT f.stands FROM fleet f) THEN ARRAY(SELECT h.id FROM covering_holds_v1(k.id) h)
                                    ELSE '{}' END AS holds) c
         WHERE k.leases
    ), first AS (
        SELECT a.id, a.holds FROM able a ORDER BY cardinality(a.holds), a.busy, a.working DESC, a.id LIMIT 1
    ), way AS (
        SELECT coalesce((SELECT f.holds FROM first f), f.holds) AS holds FROM fleet f
    ), free AS MATERIALIZED (
        SELECT a.* FROM able a, first f WHERE cardinality(a.holds) = cardinality(f.holds)
    )
    SELECT jsonb_build_array(
               (SELECT jsonb_build_object(
                           'check', 'workers', 'ok', count(*) FILTER (WHERE k.leases) > 0,
                           'since', readable_v1(CASE WHEN count(*) FILTER (WHERE k.leases) = 0 THEN max(k.beat_at) END),
                           'living', count(*) FILTER (WHERE k.leases), 'silent', count(*) FILTER (WHERE k.lives IS NOT TRUE),
                           'stopping', count(*) FILTER (WHERE k.lives AND NOT k.leases),
                           'who', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                                              'leased_by', s.leased_by, 'worker', s.id, 'unit', s.unit,
                                              'beat_at', readable_v1(s.beat_at), 'seconds', seconds_since_v1(s.beat_at),
                                              'drained', EXISTS (SELECT FROM covering_holds_v1(s.id) h
                                                                  WHERE h.scope IN ('host', 'unit')))
                                              ORDER BY s.beat_at DESC NULLS LAST), '[]')
                                     FROM (SELECT * FROM known n WHERE n.lives IS NOT TRUE
                                            ORDER BY n.beat_at DESC NULLS LAST LIMIT 5) s),
                           'kinds', CASE WHEN count(*) FILTER (WHERE k.leases) = 0 THEN (
                                         SELECT coalesce(jsonb_agg(d.kind ORDER BY d.kind), '[]')
                                           FROM (SELECT DISTINCT u.kind
                                                   FROM workers w JOIN beats b ON b.worker_id = w.id, unnest(w.kinds) AS u (kind)
                                                  WHERE lives_v1(b.beat_at) AND u.kind IS NOT NULL LIMIT 1000) d) END)
                  FROM known k),
               (SELECT jsonb_build_object(
                           'check', 'drains', 'ok', w.holds = '{}',
                           'since', (SELECT readable_v1(max(h.created)) FROM holds h WHERE h.id = ANY (w.holds)),
                           'drained', (SELECT count(*) FROM able a WHERE a.holds <> '{}'),
                           'holds', (SELECT coalesce(jsonb_agg(shown_hold_v1(u.id)), '[]') FROM unnest(w.holds) AS u (id)))
                  FROM way w),
               (SELECT jsonb_build_object(
                           'check', 'busy', 'ok', count(*) FILTER (WHERE NOT f.busy) > 0 OR count(*) = 0,
                           'since', readable_v1(max(f.job_since) FILTER (WHERE f.job_id IS NOT NULL)),
                           'busy', count(*) FILTER (WHERE f.busy), 'free', count(*) FILTER (WHERE NOT f.busy),
                           'who', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                                              'leased_by', s.leased_by, 'worker', s.id, 'unit', s.unit, 'state', s.state,
                                              'job_id', s.job_id, 'job_kind', s.job_kind, 'job_since', readable_v1(s.job_since),
                                              'seconds', seconds_since_v1(s.job_since)) ORDER BY s.job_since), '[]')
                                     FROM (SELECT * FROM free n WHERE n.busy ORDER BY n.job_since LIMIT 5) s))
                  FROM free f)),
           (SELECT f.id FROM first f)
$$;
