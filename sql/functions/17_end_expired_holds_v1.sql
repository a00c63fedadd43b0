-- Takes away the holds that reached their end, with an audit row each. A pause goes last: first what is marked paused goes
-- back into the queue, at most p_limit jobs a call. Called by sweep_v1.
CREATE OR REPLACE FUNCTION end_expired_holds_v1(p_limit integer DEFAULT 5000) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    v_hold    holds;
    v_ids     bigint[];
    v_flipped bigint[];
BEGIN
    FOR v_hold IN SELECT * FROM holds WHERE until <= clock_timestamp() FOR UPDATE SKIP LOCKED LOOP
        IF v_hold.scope = 'kind' THEN
            v_ids := ARRAY(SELECT id FROM jobs WHERE state = 'paused' AND kind = v_hold.target
                            ORDER BY id LIMIT p_limit FOR UPDATE);
            v_flipped := flip_v1(v_ids, 'queued');
            PERFORM wake_v1();
            -- What the database refuses to flip must not keep the pause from ending.
            CONTINUE WHEN cardinality(v_flipped) > 0
                      AND EXISTS (SELECT FROM jobs WHERE state = 'paused' AND kind = v_hold.target AND id <> ALL (v_ids));
        END IF;
        DELETE FROM holds WHERE id = v_hold.id;
        INSERT INTO audit (actor, action, target, reason, detail)
        VALUES ('shithubd-worker', 'expire', concat_ws(' ', v_hold.scope, nullif(v_hold.target, '')), v_hold.reason,
                jsonb_build_object('hold', v_hold.id, 'set_by', v_hold.actor, 'until', v_hold.until));
    END LOOP;
END $$;
