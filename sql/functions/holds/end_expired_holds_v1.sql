-- Ends each hold whose end has passed (until), or whose ramp is over, with an audit row for each.
-- A pause ends last of all: first the paused jobs of its kind go back into the queue, in batches of p_limit. Once p_limit
-- jobs were flipped, the rest is left to the next call. The pause also stays while somebody has locked one of its jobs. A
-- job that the database refuses to flip stays paused; a warning says how many jobs those are, and what to do.
-- Called by sweep_v1. It runs with the rights of the owner, so that a worker can write no other audit row.
CREATE OR REPLACE FUNCTION end_expired_holds_v1(p_limit integer DEFAULT 5000) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_hold    :"schema".holds;
    v_ids     bigint[];
    v_flipped bigint[];
    v_refused bigint[];
    v_after   bigint;
    v_count   integer;
BEGIN
    FOR v_hold IN SELECT * FROM :"schema".holds h
         WHERE h.until <= clock_timestamp()
            OR EXISTS (SELECT FROM :"schema".ramps r
                        WHERE r.hold_id = h.id AND r.stopped_at IS NULL AND r.over_at <= clock_timestamp())
           FOR UPDATE SKIP LOCKED LOOP
        -- Once more, with the hold locked: an operator may have replaced its ramp just now, or the ramp has stopped.
        IF NOT coalesce(v_hold.until <= clock_timestamp(), false) THEN
            CONTINUE WHEN NOT EXISTS (SELECT FROM :"schema".ramps r
                                       WHERE r.hold_id = v_hold.id AND r.stopped_at IS NULL AND r.over_at <= clock_timestamp());
        END IF;
        IF v_hold.scope = 'kind' THEN
            v_refused := '{}';
            v_after := -9223372036854775808;
            v_count := 0;
            LOOP
                v_ids := ARRAY(SELECT id FROM :"schema".jobs WHERE state = 'paused' AND kind = v_hold.target AND id > v_after
                                ORDER BY id LIMIT p_limit FOR UPDATE SKIP LOCKED);
                EXIT WHEN pg_catalog.cardinality(v_ids) = 0;
                v_flipped := :"schema".flip_v1(v_ids, 'queued');
                v_refused := pg_catalog.array_cat(
                    v_refused, ARRAY(SELECT pg_catalog.unnest(v_ids) EXCEPT SELECT pg_catalog.unnest(v_flipped)));
                v_after := v_ids[pg_catalog.cardinality(v_ids)];
                v_count := v_count + pg_catalog.cardinality(v_flipped);
                EXIT WHEN v_count >= p_limit;
            END LOOP;
            PERFORM :"schema".wake_v1();
            CONTINUE WHEN EXISTS (SELECT FROM :"schema".jobs WHERE state = 'paused' AND kind = v_hold.target AND id <> ALL (v_refused));
            IF pg_catalog.cardinality(v_refused) > 0 THEN
                RAISE WARNING 'the pause of kind % is over, but % of its jobs stay paused: fix what refuses them, then run resume-kind %',
                    v_hold.target, pg_catalog.cardinality(v_refused), v_hold.target;
            END IF;
        END IF;
        -- Not while somebody leases from the ramp: this function waits for nobody.
        PERFORM FROM :"schema".ramps WHERE hold_id = v_hold.id FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND AND EXISTS (SELECT FROM :"schema".ramps WHERE hold_id = v_hold.id);
        DELETE FROM :"schema".holds WHERE id = v_hold.id;
        PERFORM :"schema".end_ramp_v1(v_hold.id);
        INSERT INTO :"schema".audit (actor, action, target, reason, detail)
        VALUES ('shithubd-worker', 'expire', pg_catalog.concat_ws(' ', v_hold.scope, nullif(v_hold.target, '')), v_hold.reason,
                pg_catalog.jsonb_build_object('hold', v_hold.id, 'set_by', v_hold.actor, 'until', v_hold.until));
    END LOOP;
END $$;
