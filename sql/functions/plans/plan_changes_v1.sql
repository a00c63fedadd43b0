-- Returns the jobs that a plan would not change now, and why, and those that it has left. It changes nothing.
--   change  what was changed since (face_difference_v1), 'unchanged' if the job is already as the plan wants it, or a word of
--           change_jobs_v1
--   done    has the plan left this job already?
-- Raises an error if there is no such plan. Called by apply_plan_v1 and by the command apply.
CREATE OR REPLACE FUNCTION plan_changes_v1(p_plan text) RETURNS TABLE (job_id bigint, change text, done boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET jit = off
SET enable_mergejoin = off SET enable_seqscan = off  -- see change_slice_v1
AS $$
DECLARE
    v_plan :"schema".job_plans := :"schema".find_plan_v1(p_plan);
BEGIN
    RETURN QUERY SELECT r.key::bigint, r.value, true
                   FROM :"schema".job_plan_chunks c, pg_catalog.jsonb_each_text(c.refused) r
                  WHERE c.plan_id = v_plan.id ORDER BY c.number, r.key::bigint;
    RETURN QUERY EXECUTE pg_catalog.format($changes$
        SELECT n.id, n.change, false
          FROM (SELECT w.id, CASE WHEN j.id IS NULL OR NOT %1$I.same_face_v1(w.face, %4$s)
                                  THEN %1$I.face_difference_v1(w.face, CASE WHEN j.id IS NOT NULL THEN %4$s END)
                                  WHEN NOT (%2$s) THEN 'its worker lives'
                                  WHEN (%3$s) IS NOT TRUE THEN 'unchanged' END AS change
                  FROM %1$I.job_plan_chunks c
                 CROSS JOIN ROWS FROM (pg_catalog.unnest(c.job_ids), pg_catalog.unnest(c.faces)) w (id, face)
                  LEFT JOIN %1$I.jobs j ON j.id = w.id
                 WHERE c.plan_id = $1 AND c.refused IS NULL) n
         WHERE n.change IS NOT NULL ORDER BY n.id $changes$,
        :'schema', :"schema".job_condition_v1(v_plan.action, v_plan.arguments, v_plan.selection),
        :"schema".job_differs_v1(v_plan.action, v_plan.arguments), :"schema".face_now_v1('w.face')) USING v_plan.id;
END $$;
