-- Writes a plan: what is going to be done, to which jobs, and how these are now. It changes no job, and locks none.
--   p_action      complete, fail, reschedule, discard, retry or release
--   p_ids         the jobs; null: all that the selection means
--   p_where       a selection (job_condition_v1, select_statement_v1); the empty object means every job
--   p_with        what the action needs (wanted_job_v1). A run_at like 'tomorrow' becomes a fixed time, in UTC unless it says
--                 otherwise
--   p_limit       at most so many jobs: the lowest ids
--   p_expires_in  apply_plan_v1 must begin before; at most 7 days
-- Returns one row:
--   plan        the name of the plan, for apply_plan_v1; null if there is no job to change
--   jobs        how many jobs it has
--   expires_at  when it expires
--   statement   the SELECT that found them
--   refused     why each other one of p_ids is not in the plan (the words of change_jobs_v1), by its id.
--               Null with a selection alone
-- Plans that expired a day ago are removed. It runs with the rights of the owner, so that nobody can forge a plan.
CREATE OR REPLACE FUNCTION plan_jobs_v1(
    p_action text, p_ids bigint[] DEFAULT NULL, p_where jsonb DEFAULT NULL, p_with jsonb DEFAULT '{}',
    p_limit bigint DEFAULT NULL, p_expires_in interval DEFAULT '1 hour', p_reason text DEFAULT NULL,
    p_actor text DEFAULT session_user,
    OUT plan text, OUT jobs bigint, OUT expires_at timestamptz, OUT statement text, OUT refused jsonb
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_ids     bigint[] := ARRAY(SELECT DISTINCT i FROM pg_catalog.unnest(p_ids) i WHERE i IS NOT NULL ORDER BY i);
    v_with    jsonb := pg_catalog.jsonb_strip_nulls(p_with);
    v_found   record;
    v_plan    :"schema".job_plans;
    v_planned bigint[];
    v_already bigint[];
BEGIN
    IF p_ids IS NULL AND p_where IS NULL THEN
        RAISE EXCEPTION 'give ids or a selection: the selection {} means every job' USING ERRCODE = 'invalid_parameter_value';
    ELSIF (p_expires_in > '0'::interval AND p_expires_in <= '7 days'::interval) IS NOT TRUE THEN
        RAISE EXCEPTION 'a plan expires in at most 7 days' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    v_with := v_with || pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'run_at', (v_with->>'run_at')::timestamptz));
    SELECT * INTO v_found
      FROM :"schema".select_statement_v1(
          coalesce(p_action, ''), v_with,
          coalesce(p_where, '{}') || pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
              'ids', CASE WHEN p_ids IS NOT NULL THEN v_ids END)), p_limit);
    plan_jobs_v1.statement := v_found.statement;

    DELETE FROM :"schema".job_plans WHERE id = ANY (ARRAY(
        SELECT p.id FROM :"schema".job_plans p
         WHERE p.expires_at < pg_catalog.clock_timestamp() - '1 day'::interval
           AND (p.done = 0 OR p.applied_at IS NOT NULL
                OR p.expires_at < pg_catalog.clock_timestamp() - '7 days'::interval) FOR UPDATE SKIP LOCKED));
    INSERT INTO :"schema".job_plans AS p
        (digest, expires_at, actor, action, arguments, selection, statement, reason, jobs, chunks)
    VALUES ('', pg_catalog.clock_timestamp() + p_expires_in, p_actor, p_action, v_with, v_found.selection - 'ids',
            plan_jobs_v1.statement, p_reason, 0, 0)
    RETURNING p.* INTO v_plan;
    -- One statement finds the jobs and keeps their faces. A chunk has at most 500 jobs and about 8 MB: apply_chunk_v1
    -- reads the payloads again while it has locked the jobs, and takes a millisecond for each that the application refuses.
    EXECUTE pg_catalog.format($insert$
        INSERT INTO %1$I.job_plan_chunks (plan_id, number, job_ids, faces)
        SELECT $1, pg_catalog.row_number() OVER (ORDER BY min(n.id)), array_agg(n.id ORDER BY n.id), array_agg(n.face ORDER BY n.id)
          FROM (SELECT f.*, (pg_catalog.row_number() OVER w - 1) / 500 AS nth,
                       sum(f.size) OVER w / 8388608 AS part
                  FROM (SELECT j.id, %1$I.job_face_v1(j) AS face, pg_catalog.pg_column_size(ARRAY[j.payload])
                               + pg_catalog.pg_column_size(ARRAY[j.last_error]) AS size FROM %1$I.jobs j WHERE j.id IN (%2$s)) f
                WINDOW w AS (ORDER BY f.id)) n
         GROUP BY n.nth, n.part $insert$, :'schema', plan_jobs_v1.statement) USING v_plan.id;
    SELECT count(*), coalesce(sum(pg_catalog.cardinality(c.job_ids)), 0),
           pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
               pg_catalog.concat(p_action, v_with, pg_catalog.string_agg(pg_catalog.encode(pg_catalog.sha256(
                   pg_catalog.convert_to(pg_catalog.concat(c.job_ids, c.faces), 'UTF8')), 'hex'), '' ORDER BY c.number)),
               'UTF8')), 'hex')
      INTO v_plan.chunks, plan_jobs_v1.jobs, v_plan.digest
      FROM :"schema".job_plan_chunks c WHERE c.plan_id = v_plan.id;
    IF p_ids IS NOT NULL AND p_limit IS NULL THEN
        v_planned := ARRAY(SELECT pg_catalog.unnest(c.job_ids) FROM :"schema".job_plan_chunks c WHERE c.plan_id = v_plan.id);
        EXECUTE pg_catalog.format('SELECT coalesce(array_agg(j.id), ''{}'') FROM %I.jobs j WHERE %s', :'schema', v_found.applies)
           INTO v_already;
        refused := :"schema".why_unchanged_v1(
            p_action, v_ids, v_with, v_found.applies, NULL, v_already, v_planned);
    END IF;
    IF plan_jobs_v1.jobs = 0 THEN
        DELETE FROM :"schema".job_plans p WHERE p.id = v_plan.id;
        RETURN;
    ELSIF plan_jobs_v1.jobs + (SELECT sum(p.jobs) FROM :"schema".job_plans p) > 10000000 THEN
        RAISE EXCEPTION 'plans have more than 10,000,000 jobs: wait until older plans are gone, a day after they expire';
    END IF;
    UPDATE :"schema".job_plans AS p SET digest = v_plan.digest, jobs = plan_jobs_v1.jobs, chunks = v_plan.chunks
     WHERE p.id = v_plan.id RETURNING p.name, p.expires_at INTO plan, plan_jobs_v1.expires_at;
END $$;
