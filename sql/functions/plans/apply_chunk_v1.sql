-- Does the next chunk of a plan, in the caller's transaction: p_number is 1 more than the chunks that are done.
-- So only one of two that apply a plan at the same moment goes on. The other gets an error. p_partial: leave each job that is
-- no longer as it was. Otherwise the chunk is done whole or not at all. A job that is already as the plan wants it never stops
-- a chunk. p_reason: null means that of the plan. Returns one row:
--   applied   was the chunk done?
--   changed   the jobs that were changed, as change_jobs_v1 returns them
--   refused   why each other job was not changed, by its id: the words of face_difference_v1 or of change_jobs_v1
--   audit_id  the audit row; null if nothing was changed
-- It runs with the rights of the owner, so that a plan is applied once.
CREATE OR REPLACE FUNCTION apply_chunk_v1(
    p_plan text, p_number integer, p_partial boolean, p_reason text, p_actor text,
    OUT applied boolean, OUT changed jobs[], OUT refused jsonb, OUT audit_id bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
SET jit = off SET enable_mergejoin = off SET enable_seqscan = off  -- see change_slice_v1
AS $$
DECLARE
    v_plan   :"schema".job_plans;
    v_reason text;
    v_audit  bigint;
    v_chunk  record;
    v_did    record;
    v_rest   bigint[];
    v_why    jsonb := '{}';
BEGIN
    PERFORM FROM :"schema".job_plans p WHERE p.name = p_plan FOR UPDATE;
    v_plan := :"schema".open_plan_v1(p_plan);
    IF p_number <> v_plan.done + 1 THEN
        RAISE EXCEPTION '% applies plan % at the same time', v_plan.applied_by, p_plan;
    END IF;
    SELECT * INTO v_chunk FROM :"schema".job_plan_chunks c WHERE c.plan_id = v_plan.id AND c.number = p_number;
    IF v_chunk IS NULL THEN
        RAISE EXCEPTION 'plan % is damaged: a part of it is gone', p_plan;
    END IF;
    v_reason := coalesce(p_reason, v_plan.reason);
    -- The audit row of the chunks before, unless it is somebody else's or older than record_change_v1 allows.
    v_audit := (SELECT max(a.id) FROM :"schema".job_plan_chunks c JOIN :"schema".audit a ON a.id = c.audit_id
                 WHERE c.plan_id = v_plan.id AND a.login = session_user
                   AND (a.actor, a.reason) IS NOT DISTINCT FROM (p_actor, v_reason)
                   AND a.at > pg_catalog.statement_timestamp() - '23 hours'::interval);
    BEGIN
        changed := '{}';
        v_rest := v_chunk.job_ids;
        WHILE v_rest <> '{}' LOOP
            SELECT * INTO v_did FROM :"schema".change_some_v1(
                v_plan.action, v_rest, v_plan.arguments, v_plan.selection,
                ARRAY(SELECT w.face FROM ROWS FROM (pg_catalog.unnest(v_chunk.job_ids), pg_catalog.unnest(v_chunk.faces)) w (id, face)
                       WHERE w.id = ANY (v_rest) ORDER BY w.id),
                v_reason, p_actor, v_audit, pg_catalog.jsonb_build_object('plan', p_plan, 'planned_by', v_plan.actor, 'planned_login', v_plan.login));
            changed := changed || v_did.changed;
            v_why := v_why || v_did.refused;
            v_audit := v_did.audit_id;
            v_rest := v_did.rest;
        END LOOP;
        refused := (
            SELECT coalesce(pg_catalog.jsonb_object_agg(r.key, CASE
                       WHEN r.value IN ('unchanged', 'locked') OR r.value LIKE 'trigger%' OR r.value LIKE 'database: %' THEN r.value
                       ELSE coalesce(:"schema".face_difference_v1(
                           w.face, CASE WHEN j.id IS NOT NULL THEN :"schema".job_face_v1(j) END), r.value) END), '{}')
              FROM pg_catalog.jsonb_each_text(v_why) r
              JOIN ROWS FROM (pg_catalog.unnest(v_chunk.job_ids), pg_catalog.unnest(v_chunk.faces)) w (id, face)
                ON w.id = r.key::bigint
              LEFT JOIN :"schema".jobs j ON j.id = w.id);
        applied := p_partial OR NOT EXISTS (SELECT FROM pg_catalog.jsonb_each_text(refused) r WHERE r.value <> 'unchanged');
        IF NOT applied THEN
            RAISE SQLSTATE 'SHPLN';  -- undoes what the block did
        END IF;
    EXCEPTION WHEN SQLSTATE 'SHPLN' THEN
        changed := '{}';
        RETURN;
    END;
    audit_id := v_audit;
    UPDATE :"schema".job_plan_chunks AS c
       SET refused = apply_chunk_v1.refused,
           audit_id = CASE WHEN pg_catalog.cardinality(apply_chunk_v1.changed) > 0 THEN v_audit END
     WHERE c.plan_id = v_plan.id AND c.number = p_number;
    UPDATE :"schema".job_plans AS p
       SET done = p_number, changed = p.changed + pg_catalog.cardinality(apply_chunk_v1.changed), applied_by = p_actor,
           applied_at = CASE WHEN p_number = p.chunks THEN pg_catalog.clock_timestamp() END
     WHERE p.id = v_plan.id;
END $$;
