-- Does one action to jobs, to all of them or to none, and returns what it did. It records nothing in the audit record.
-- p_condition is that of job_condition_v1. p_faces runs in parallel to p_ids: a job with another face (job_face_v1) is left
-- alone; null means any face. Returns one row:
--   tried     the ids that it locked: the jobs that the condition and the faces allow
--   changed   the jobs that it changed: as they are now, without their payloads; or as they were if they are gone
--   before    the faces of the changed jobs before
--   after     their faces after; null for a job that is gone
--   payloads  the payload of a job that is gone, else null
-- A job that already is as it should be is tried, and not changed. So is a job that a trigger of the application keeps.
-- p_wait: wait for a job that another session has locked. Otherwise such jobs are skipped: while the caller waits, others
-- would have to wait for the jobs that it has locked itself. Called by change_some_v1.
CREATE OR REPLACE FUNCTION change_slice_v1(
    p_action text, p_ids bigint[], p_with jsonb, p_condition text, p_faces jsonb[], p_reason text, p_actor text,
    p_wait boolean,
    OUT tried bigint[], OUT changed jobs[], OUT before jsonb[], OUT after jsonb[], OUT payloads jsonb[]
)
LANGUAGE plpgsql SET search_path = pg_catalog, :"schema", pg_temp
-- As in settle_v1: by the primary key, because the planner's statistics of a queue are never up to date.
SET jit = off SET enable_mergejoin = off SET enable_seqscan = off SET timezone = 'UTC'
AS $$
DECLARE
    v_gone boolean := p_action IN ('complete', 'discard');
    v_jobs :"schema".jobs[];
BEGIN
    EXECUTE pg_catalog.format(
        'SELECT pg_catalog.array_agg(l.job), pg_catalog.array_agg((l.job).id) FROM (SELECT %4$s AS job'
        ' FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) w (id, face), %1$I.jobs j'
        ' WHERE j.id = w.id AND %2$s AND (w.face IS NULL OR %1$I.same_face_v1(w.face, %5$s)) ORDER BY j.id FOR UPDATE OF j %3$s) l',
        :'schema', p_condition, CASE WHEN NOT p_wait THEN 'SKIP LOCKED' END,
        :"schema".job_row_v1(CASE WHEN v_gone THEN 'j.payload' ELSE 'NULL' END), :"schema".face_now_v1('w.face'))
       INTO v_jobs, tried USING p_ids, p_faces;
    IF v_gone THEN
        WITH gone AS (DELETE FROM :"schema".jobs j WHERE j.id = ANY (tried) RETURNING j.id)
        SELECT pg_catalog.array_agg(o), pg_catalog.array_agg(:"schema".job_face_v1(o)), pg_catalog.array_agg(NULL::jsonb),
               pg_catalog.array_agg(o.payload)
          INTO changed, before, after, payloads
          FROM pg_catalog.unnest(v_jobs) o, gone WHERE gone.id = o.id;
    ELSE
        EXECUTE pg_catalog.concat($sql$
            WITH wanted AS MATERIALIZED (
                SELECT o.id, :"schema".wanted_job_v1(o, $1, $2) AS job FROM pg_catalog.unnest($3) o
            ), written AS (
                UPDATE :"schema".jobs j
                   SET state = (w.job).state, priority = (w.job).priority, run_at = (w.job).run_at, attempts = (w.job).attempts,
                       max_attempts = (w.job).max_attempts, crashes = (w.job).crashes, alone = (w.job).alone,
                       last_error = (w.job).last_error,
                       leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
                  FROM wanted w
                 WHERE j.id = w.id
                   AND (j.state, j.priority, j.run_at, j.attempts, j.max_attempts, j.crashes, j.alone, j.last_error)
                       IS DISTINCT FROM ((w.job).state, (w.job).priority, (w.job).run_at, (w.job).attempts,
                                         (w.job).max_attempts, (w.job).crashes, (w.job).alone, (w.job).last_error)
                RETURNING $sql$, :"schema".job_row_v1(), $sql$ AS job
            ), compared AS (
                SELECT w.job, :"schema".job_face_v1(o) AS old, :"schema".job_face_v1(w.job) AS new
                  FROM pg_catalog.unnest($3) o, written w WHERE (w.job).id = o.id
            )
            SELECT pg_catalog.array_agg(c.job), pg_catalog.array_agg(c.old), pg_catalog.array_agg(c.new),
                   pg_catalog.array_agg(NULL::jsonb)
              FROM compared c WHERE c.old <> c.new
            $sql$)
           INTO changed, before, after, payloads USING p_action, p_with, v_jobs;
    END IF;
    IF changed IS NULL OR p_action IN ('reschedule', 'retry') THEN
        RETURN;
    END IF;
    -- The history tells how a job's life or its lease ended. Later, nobody can tell it from the row.
    PERFORM :"schema".record_v1(pg_catalog.array_agg(:"schema".ended_v1(
        o,
        CASE p_action WHEN 'complete' THEN 'completed' WHEN 'discard' THEN 'discarded' WHEN 'release' THEN 'released'
                      ELSE 'failed' END,
        CASE p_action WHEN 'discard' THEN o.last_error
                      ELSE pg_catalog.concat_ws(': ', CASE p_action WHEN 'complete' THEN 'completed' WHEN 'fail' THEN 'failed'
                                                      ELSE 'released' END || ' by ' || p_actor, p_with->>'error'::text, p_reason) END,
        CASE WHEN p_action IN ('complete', 'discard') THEN '90d' ELSE '7d' END,
        CASE WHEN p_action IN ('complete', 'discard') THEN o.payload END)))
       FROM pg_catalog.unnest(v_jobs) o, pg_catalog.unnest(changed) c WHERE c.id = o.id;
END $$;
