-- Does what a plan says, in the caller's transaction, and returns the jobs that it changed.
-- If a job is no longer as it was when the plan was made, it raises an error that names it, and nothing is changed. With
-- p_partial, it leaves these jobs and changes the others; plan_changes_v1 lists what it left. A plan is applied once.
-- p_reason: null means that of the plan. `audit undo` takes it back, unless the action is release.
CREATE OR REPLACE FUNCTION apply_plan_v1(
    p_plan text, p_partial boolean DEFAULT false, p_reason text DEFAULT NULL, p_actor text DEFAULT session_user
) RETURNS SETOF jobs
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_plan   :"schema".job_plans := :"schema".open_plan_v1(p_plan);
    v_many   bigint;
    v_first  text;
    v_done   record;
BEGIN
    IF NOT p_partial THEN
        SELECT count(*), pg_catalog.string_agg(pg_catalog.format('job %s: %s', f.job_id, f.change), '; ') FILTER (WHERE f.n <= 3)
          INTO v_many, v_first
          FROM (SELECT c.*, pg_catalog.row_number() OVER () AS n FROM :"schema".plan_changes_v1(p_plan) c
                 WHERE NOT c.done AND c.change <> 'unchanged') f;
        IF v_many > 0 THEN
            RAISE EXCEPTION 'plan % is not applied: % of its % jobs were changed since: %', p_plan, v_many, v_plan.jobs, v_first;
        END IF;
    END IF;
    FOR n IN v_plan.done + 1 .. v_plan.chunks LOOP
        SELECT * INTO v_done FROM :"schema".apply_chunk_v1(p_plan, n, p_partial, p_reason, p_actor);
        IF NOT v_done.applied THEN
            RAISE EXCEPTION 'plan % is not applied: some of its jobs are in use: %', p_plan, v_done.refused;
        END IF;
        IF v_plan.action IN ('complete', 'discard') THEN
            RETURN QUERY SELECT * FROM pg_catalog.unnest(v_done.changed);
        ELSE
            RETURN QUERY SELECT j.* FROM pg_catalog.unnest(v_done.changed) c, :"schema".jobs j WHERE j.id = c.id;
        END IF;
    END LOOP;
END $$;
