-- Restores jobs by undo_slice_v1, and records it. A job that the database refuses to change (a trigger or a constraint of the
-- application) keeps no other from being restored. The arrays are those of undo_slice_v1. p_undoes is the audit row that is
-- undone, p_detail is for the undo's own row, and p_undo is that row's id if an earlier transaction has made it.
-- Returns one row: tried and changed as undo_slice_v1 does, refused (the database's words, by the id of the job), and undo_id.
-- Called by undo_chunk_v1.
CREATE OR REPLACE FUNCTION undo_some_v1(
    p_ids bigint[], p_before jsonb[], p_after jsonb[], p_payloads jsonb[],
    p_detail jsonb, p_reason text, p_actor text, p_undo bigint,
    OUT tried bigint[], OUT changed jobs[], OUT refused jsonb, OUT undo_id bigint
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count integer := pg_catalog.cardinality(p_ids);
    v_half  integer := v_count / 2;
    v_did   record;
BEGIN
    tried := '{}';
    changed := '{}';
    refused := '{}';
    undo_id := p_undo;
    IF v_count = 0 THEN
        RETURN;
    END IF;
    BEGIN
        SELECT * INTO v_did FROM :"schema".undo_slice_v1(
            p_ids, p_before, p_after, p_payloads,
            CASE p_detail->>'action' WHEN 'complete' THEN 'completed' ELSE 'discarded' END,
            pg_catalog.concat_ws(': ', pg_catalog.format('undo of audit row %s by %s', p_detail->>'undoes', p_actor), p_reason));
        tried := v_did.tried;
        IF v_did.changed IS NOT NULL THEN
            changed := v_did.changed;
            undo_id := :"schema".record_change_v1(
                p_undo, 'undo', p_detail, p_reason, p_actor, ARRAY(SELECT c.id FROM pg_catalog.unnest(changed) c),
                v_did.before, v_did.after, v_did.payloads);
        END IF;
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        -- About no single job: the classes of change_some_v1.
        IF pg_catalog.left(SQLSTATE, 2) IN ('08', '25', '40', '53', '55', '57', '58', 'XX') THEN
            RAISE;
        ELSIF v_count = 1 THEN
            refused := pg_catalog.jsonb_build_object(p_ids[1]::text, 'database: ' || SQLERRM);
            RETURN;
        END IF;
    END;
    -- Nothing was changed: look for the job that is refused.
    SELECT * INTO v_did FROM :"schema".undo_some_v1(
        p_ids[:v_half], p_before[:v_half], p_after[:v_half], p_payloads[:v_half], p_detail, p_reason, p_actor, p_undo);
    SELECT v_did.tried || h.tried, v_did.changed || h.changed, v_did.refused || h.refused, h.undo_id
      INTO tried, changed, refused, undo_id
      FROM :"schema".undo_some_v1(
        p_ids[v_half + 1:], p_before[v_half + 1:], p_after[v_half + 1:], p_payloads[v_half + 1:],
        p_detail, p_reason, p_actor, v_did.undo_id) h;
END $$;
