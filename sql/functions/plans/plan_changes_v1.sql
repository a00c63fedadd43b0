-- Returns the jobs of a plan that are no longer as they were, and what was changed. It changes nothing.
-- A part of the plan that is done already counts with the jobs that it did not change. Raises an error if there is no such
-- plan. Called by apply_job_plan and by the command apply.
CREATE OR REPLACE FUNCTION plan_changes_v1(p_plan text) RETURNS TABLE (job_id bigint, change text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET jit = off
SET enable_mergejoin = off SET enable_seqscan = off  -- see change_slice_v1
AS $$
DECLARE
    v_plan :"schema".job_plans;
BEGIN
    SELECT * INTO v_plan FROM :"schema".job_plans p WHERE p.name = p_plan;
    IF v_plan.id IS NULL THEN
        RAISE EXCEPTION 'there is no plan %', p_plan USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY SELECT r.key::bigint, r.value
                   FROM :"schema".job_plan_chunks c, pg_catalog.jsonb_each_text(c.refused) r
                  WHERE c.plan_id = v_plan.id ORDER BY c.number, r.key::bigint;
    RETURN QUERY EXECUTE pg_catalog.format($changes$
        SELECT w.id, coalesce(%1$I.face_difference_v1(w.face, CASE WHEN j.id IS NOT NULL THEN %1$I.job_face_v1(j) END), 'its worker lives')
          FROM %1$I.job_plan_chunks c
         CROSS JOIN ROWS FROM (pg_catalog.unnest(c.job_ids), pg_catalog.unnest(c.faces)) w (id, face)
          LEFT JOIN %1$I.jobs j ON j.id = w.id
         WHERE c.plan_id = $1 AND c.refused IS NULL AND NOT (j.id IS NOT NULL AND w.face = %1$I.job_face_v1(j) AND %2$s)
         ORDER BY w.id $changes$, :'schema', :"schema".job_condition_v1(v_plan.action, v_plan.arguments, v_plan.selection))
      USING v_plan.id;
END $$;
