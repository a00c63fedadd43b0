-- Returns the row of a plan that can be applied, or the rest of it. Raises an error if it cannot.
-- A plan that has begun can be finished after its expiry. Called by apply_chunk_v1, apply_plan_v1 and the command apply.
CREATE OR REPLACE FUNCTION open_plan_v1(p_plan text) RETURNS job_plans
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    v_plan :"schema".job_plans := :"schema".find_plan_v1(p_plan);
BEGIN
    IF v_plan.applied_at IS NOT NULL THEN
        RAISE EXCEPTION 'plan % is already applied: by % at % (audit %)', p_plan, v_plan.applied_by,
            pg_catalog.date_trunc('second', v_plan.applied_at),
            coalesce((SELECT pg_catalog.string_agg(DISTINCT c.audit_id::text, ', ') FROM :"schema".job_plan_chunks c
                       WHERE c.plan_id = v_plan.id), 'none');
    ELSIF v_plan.done = 0 AND v_plan.expires_at <= pg_catalog.clock_timestamp() THEN
        RAISE EXCEPTION 'plan % expired at %', p_plan, pg_catalog.date_trunc('second', v_plan.expires_at);
    END IF;
    RETURN v_plan;
END $$;
