-- Returns the row of a plan by its name. Raises an error if there is none. Called by open_plan_v1 and plan_changes_v1.
CREATE OR REPLACE FUNCTION find_plan_v1(p_plan text) RETURNS job_plans
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_plan :"schema".job_plans;
BEGIN
    SELECT * INTO v_plan FROM :"schema".job_plans p WHERE p.name = p_plan;
    IF v_plan.id IS NULL THEN
        RAISE EXCEPTION 'there is no plan %', p_plan USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN v_plan;
END $$;
