-- Returns one row of the audit record, as audit_row_v1, or null if there is none. And:
--   final  why its jobs can't be restored (why_final_v1); null if they can
--   hold   null, or the hold that the row is about: scope, target, reason, until, and
--            set      the row set the hold, or changed it. Otherwise it ended the hold
--            stands   a hold of this scope and target stands now; of a row that set it, exactly as that row set it
--            before   the row that set the same hold before this one, or null
--            after    the first later row about this scope and target, with id and action; or null
CREATE OR REPLACE FUNCTION show_audit_v1(p_id bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
DECLARE
    v_row   audit;
    v_set   audit;
    v_after jsonb;
    v_hold  jsonb;
BEGIN
    SELECT * INTO v_row FROM audit WHERE id = p_id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF v_row.action IN ('pause', 'drain', 'resume', 'expire') THEN
        -- The words with which the hold was set.
        SELECT * INTO v_set FROM audit a
         WHERE a.id < p_id + (v_row.action IN ('pause', 'drain'))::integer AND a.action IN ('pause', 'drain')
           AND a.target = v_row.target AND a.detail->'hold' = v_row.detail->'hold'
         ORDER BY a.id DESC LIMIT 1;
        v_after := (SELECT jsonb_build_object('id', a.id, 'action', a.action) FROM audit a
                     WHERE a.id > p_id AND a.target = v_row.target AND a.action IN ('pause', 'drain', 'ramp', 'stop', 'resume', 'expire')
                     ORDER BY a.id LIMIT 1);
        v_hold := jsonb_build_object(
            'scope', split_part(v_row.target, ' ', 1),
            'target', substr(v_row.target, length(split_part(v_row.target, ' ', 1)) + 2),
            'reason', v_set.reason, 'until', readable_v1((v_set.detail->>'until')::timestamptz), 'set', v_row.action IN ('pause', 'drain'),
            'before', (SELECT max(a.id) FROM audit a WHERE a.id < p_id AND a.action IN ('pause', 'drain', 'ramp')
                          AND a.target = v_row.target AND a.detail->'hold' = v_row.detail->'hold'),
            'after', v_after,
            'stands', CASE WHEN v_row.action IN ('pause', 'drain') THEN hold_stands_v1(p_id)
                           ELSE EXISTS (SELECT FROM standing_holds h
                                         WHERE concat_ws(' ', h.scope, nullif(h.target, '')) = v_row.target) END);
    END IF;
    RETURN audit_row_v1(v_row) || jsonb_build_object('final', why_final_v1(v_row), 'hold', v_hold);
END $$;
