-- Restores jobs, all of them or none, and returns what it did. It records nothing in the audit record.
-- The arrays are those of a chunk: the ids, and the faces (job_face_v1) that the change has found and left. A job is restored
-- if its face still is the one in p_after:
--   p_after null   the job is gone: its row is made again, with its old id, unless a job has this id
--   p_before null  there was no such job: its row goes, and the history gets p_outcome
--   else           its columns become those of p_before
-- Returns one row, as change_slice_v1 does: tried (the ids whose rows it locked or that are gone), changed, before, after and
-- payloads. It waits for the lock of a single job. Of several, it skips those that another session has locked.
-- Called by undo_some_v1.
CREATE OR REPLACE FUNCTION undo_slice_v1(
    p_ids bigint[], p_before jsonb[], p_after jsonb[], p_payloads jsonb[], p_outcome text, p_said text,
    OUT tried bigint[], OUT changed jobs[], OUT before jsonb[], OUT after jsonb[], OUT payloads jsonb[]
)
LANGUAGE plpgsql SET search_path = pg_catalog, :"schema", pg_temp
SET jit = off SET enable_mergejoin = off SET enable_seqscan = off SET timezone = 'UTC'
AS $$
DECLARE
    v_locked bigint[];
    -- All columns that the record keeps, also those that an application has added.
    v_names  text[] := ARRAY(
        SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = pg_catalog.format('%I.jobs', :'schema')::regclass::oid AND a.attnum > 0 AND NOT a.attisdropped
           AND a.attgenerated = '' AND a.attname <> 'id'
           AND a.attname IN (SELECT pg_catalog.jsonb_object_keys(b) FROM (SELECT b FROM pg_catalog.unnest(p_before) b WHERE b IS NOT NULL LIMIT 1) o)
         ORDER BY a.attnum);
    v_all    text := pg_catalog.array_to_string(pg_catalog.array_prepend('id'::text, v_names), ', ');
    v_values text := (SELECT pg_catalog.string_agg(pg_catalog.concat('(w.job).', n), ', ')
                        FROM pg_catalog.unnest(pg_catalog.array_prepend('id'::text, v_names)) n);
    v_fixed  text[] := ARRAY(  -- the columns that no UPDATE may set, although an INSERT may
        SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = pg_catalog.format('%I.jobs', :'schema')::regclass::oid AND a.attidentity = 'a');
    v_set    text := (SELECT pg_catalog.string_agg(pg_catalog.format('%1$s = (w.job).%1$s', n), ', ')
                        FROM pg_catalog.unnest(v_names) n WHERE n <> 'payload' AND n <> ALL (v_fixed));
BEGIN
    EXECUTE pg_catalog.format(
        'SELECT ARRAY(SELECT j.id FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) w (id, face), %1$I.jobs j'
        ' WHERE j.id = w.id AND %1$I.same_face_v1(w.face, %3$s) ORDER BY j.id FOR UPDATE OF j %2$s)',
        :'schema', CASE WHEN pg_catalog.cardinality(p_ids) > 1 THEN 'SKIP LOCKED' END, :"schema".face_now_v1('w.face'))
       INTO v_locked USING p_ids, p_after;
    tried := pg_catalog.array_cat(v_locked, ARRAY(
        SELECT w.id FROM ROWS FROM (pg_catalog.unnest(p_ids), pg_catalog.unnest(p_after)) w (id, face) WHERE w.face IS NULL));
    EXECUTE pg_catalog.concat($sql$
        WITH recorded AS MATERIALIZED (
            SELECT w.id, w.before, w.after,
                   pg_catalog.jsonb_populate_record(NULL:::"schema".jobs, w.before || pg_catalog.jsonb_build_object('payload', w.payload)) AS job
              FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4))
                   w (id, before, after, payload)
        ), written AS (
            UPDATE :"schema".jobs j SET $sql$, coalesce(v_set, 'state = j.state'), $sql$
              FROM recorded w WHERE j.id = w.id AND w.id = ANY ($5) AND w.before IS NOT NULL
            RETURNING $sql$, :"schema".job_row_v1(), $sql$ AS job
        ), made AS (
            INSERT INTO :"schema".jobs AS j ($sql$, v_all, $sql$) OVERRIDING SYSTEM VALUE
            SELECT $sql$, v_values, $sql$ FROM recorded w WHERE w.after IS NULL AND w.before IS NOT NULL ORDER BY w.id
                ON CONFLICT (id) DO NOTHING
            RETURNING j AS job
        ), gone AS (
            DELETE FROM :"schema".jobs j USING recorded w WHERE j.id = w.id AND w.id = ANY ($5) AND w.before IS NULL
            RETURNING j AS job
        ), done AS (
            SELECT job, :"schema".job_face_v1(job) AS new, NULL::jsonb AS payload FROM written
             UNION ALL SELECT job, :"schema".job_face_v1(job), NULL FROM made
             UNION ALL SELECT job, NULL, (job).payload FROM gone
        )
        SELECT pg_catalog.array_agg(d.job ORDER BY w.id), pg_catalog.array_agg(w.after ORDER BY w.id),
               pg_catalog.array_agg(d.new ORDER BY w.id), pg_catalog.array_agg(d.payload ORDER BY w.id)
          FROM done d, recorded w WHERE w.id = (d.job).id
        $sql$)
       INTO changed, before, after, payloads USING p_ids, p_before, p_after, p_payloads, v_locked;
    PERFORM :"schema".record_v1(pg_catalog.array_agg(:"schema".ended_v1(c.job, p_outcome, p_said, '90d', (c.job).payload)))
       FROM ROWS FROM (pg_catalog.unnest(payloads)) WITH ORDINALITY w (payload, n)
       CROSS JOIN LATERAL (SELECT changed[w.n] AS job) c
      WHERE w.payload IS NOT NULL
     HAVING count(*) > 0;
END $$;
