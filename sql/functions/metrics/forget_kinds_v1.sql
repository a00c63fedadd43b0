-- Removes the counts of kinds that have no job and no worker (leases_returned), and records it. Returns the removed kinds, and
-- how many kinds without jobs and workers it kept.
--
-- It is safe while workers run. It locks the rows before it looks a second time: a worker that counts at the same moment waits,
-- and one that has just registered keeps its kinds. It skips a row that somebody has locked.
-- No counter that a worker shows goes back. Metrics name the first 100 kinds that a worker does not know, and show the sums of
-- the rest as the kind 'other' (queue_gauges_v1). So the function adds the counts of a kind of the rest to the row 'other',
-- which stays the last one. It removes one of the first 100 only if no worker has other kinds in its rest. Otherwise one of
-- these would take its place, and its counts would leave the sums. Prometheus would take that for a restart, and for many new
-- ends.
--
-- It runs with the rights of the owner, so that an operator can remove nothing without an audit row.
-- Called by cleanup, for GC_TASK_IDENTIFIERS.
CREATE OR REPLACE FUNCTION forget_kinds_v1(
    p_reason text DEFAULT NULL, p_actor text DEFAULT session_user, OUT removed text[], OUT kept integer
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp SET jit = off
AS $$
DECLARE
    v_locked text[] := ARRAY(SELECT r.kind FROM :"schema".leases_returned r
                              WHERE r.kind IN (SELECT i.kind FROM :"schema".idle_kinds_v1() i)
                              ORDER BY r.kind FOR UPDATE SKIP LOCKED);
    v_near   text[];
    v_far    text[];
BEGIN
    SELECT coalesce(pg_catalog.array_agg(i.kind ORDER BY i.kind) FILTER (WHERE i.place <= 100), '{}'),
           coalesce(pg_catalog.array_agg(i.kind ORDER BY i.kind) FILTER (WHERE i.place > 100), '{}')
      INTO v_near, v_far
      FROM :"schema".idle_kinds_v1() i WHERE i.kind = ANY (v_locked);
    IF pg_catalog.cardinality(v_far) > 0 THEN
        INSERT INTO :"schema".leases_returned (kind, since) VALUES ('other', 'infinity') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM :"schema".count_ended_v1(
                pg_catalog.array_agg('other'::text), pg_catalog.array_agg(s.outcome),
                pg_catalog.array_agg(least(s.n, 9223372036854775807)::bigint))
       FROM (SELECT e.outcome, sum(e.n) AS n
               FROM :"schema".leases_returned r,
                    LATERAL (VALUES ('ok', r.ok), ('retry', r.retry), ('failed', r.failed), ('poison', r.poison),
                                    ('released', r.released), ('crashed', r.crashed), ('lease_lost', r.lease_lost),
                                    ('forced', r.forced)) AS e (outcome, n)
              WHERE r.kind = ANY (v_far) GROUP BY 1) s
     HAVING count(*) > 0;
    DELETE FROM :"schema".leases_returned AS r WHERE r.kind = ANY (v_far);
    removed := v_far;
    kept := 0;
    IF EXISTS (SELECT FROM (SELECT DISTINCT w.kinds[1:200] AS kinds FROM :"schema".workers w) k
                WHERE (SELECT count(*) FROM :"schema".leases_returned r WHERE r.since < 'infinity')
                      - (SELECT count(*) FROM :"schema".leases_returned r WHERE r.since < 'infinity' AND r.kind = ANY (k.kinds))
                      > 100) THEN
        kept := pg_catalog.cardinality(v_near);
    ELSE
        DELETE FROM :"schema".leases_returned AS r WHERE r.kind = ANY (v_near);
        removed := pg_catalog.array_cat(v_near, v_far);
    END IF;
    IF pg_catalog.cardinality(removed) > 0 THEN
        INSERT INTO :"schema".audit (actor, action, target, reason, detail)
        VALUES (p_actor, 'cleanup', 'GC_TASK_IDENTIFIERS', p_reason, pg_catalog.jsonb_build_object(
            'removed', pg_catalog.cardinality(removed), 'kinds', removed[1:100]));
    END IF;
END $$;
