-- Undoes the next chunk of an audit row, in the caller's transaction: restores each job that nobody has touched since.
--   p_audit            the audit row that is undone
--   p_after            the chunk where the last call ended; 0 at first
--   p_only             null, or the only jobs of the chunk that are meant: those that were locked before
--   p_reason, p_actor  for the undo's own audit row
--   p_undo             that row, if an earlier transaction of the undo has made it
-- Returns one row:
--   chunk    the p_after of the next call; null if there is no further chunk
--   changed  the jobs that it restored; of an undo that removes jobs again, as they were
--   refused  why each other job is left alone, by its id: the words of undo_fates_v1, and
--              locked             another session has locked it
--              trigger            a trigger of the application left it as it is
--              database: <error>  the database refused the change
--   undo_id  the undo's audit row; null if nothing was restored, also not earlier
-- Raises an error if the row cannot be undone (why_final_v1). Two undos of one row come one after the other.
--
-- It runs with the rights of the owner, so that an operator can change no job without an audit row.
CREATE OR REPLACE FUNCTION undo_chunk_v1(
    p_audit bigint, p_after bigint DEFAULT 0, p_only bigint[] DEFAULT NULL, p_reason text DEFAULT NULL,
    p_actor text DEFAULT session_user, p_undo bigint DEFAULT NULL,
    OUT chunk bigint, OUT changed jobs[], OUT refused jsonb, OUT undo_id bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    v_audit  :"schema".audit;
    v_able   record;
    v_did    record;
BEGIN
    IF pg_catalog.current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'undo_jobs needs READ COMMITTED, this transaction is %',
            pg_catalog.current_setting('transaction_isolation');  -- others do not see that a restored job has run
    END IF;
    SELECT * INTO v_audit FROM :"schema".audit WHERE id = p_audit FOR NO KEY UPDATE;
    IF :"schema".why_final_v1(v_audit) IS NOT NULL THEN
        RAISE EXCEPTION 'audit row % cannot be undone: %', p_audit, :"schema".why_final_v1(v_audit)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    undo_id := p_undo;
    chunk := (SELECT c.id FROM :"schema".audit_chunks c WHERE c.audit_id = p_audit AND c.id > p_after ORDER BY c.id LIMIT 1);
    IF chunk IS NULL THEN
        RETURN;
    END IF;
    SELECT coalesce(pg_catalog.array_agg(f.job_id) FILTER (WHERE f.fate IS NULL), '{}') AS ids,
           pg_catalog.array_agg(f.before) FILTER (WHERE f.fate IS NULL) AS before,
           pg_catalog.array_agg(f.after) FILTER (WHERE f.fate IS NULL) AS after,
           pg_catalog.array_agg(f.payload) FILTER (WHERE f.fate IS NULL) AS payloads,
           coalesce(pg_catalog.jsonb_object_agg(f.job_id, f.fate) FILTER (WHERE f.fate IS NOT NULL), '{}') AS refused
      INTO v_able FROM :"schema".undo_fates_v1(p_audit, chunk, p_only) f;
    SELECT * INTO v_did FROM :"schema".undo_some_v1(
        v_able.ids, v_able.before, v_able.after, v_able.payloads,
        pg_catalog.jsonb_build_object('undoes', p_audit, 'action', coalesce(v_audit.detail->>'action', v_audit.action)),
        p_reason, p_actor, p_undo);
    changed := v_did.changed;
    undo_id := v_did.undo_id;
    v_able.ids := ARRAY(SELECT i FROM pg_catalog.unnest(v_able.ids) i EXCEPT SELECT c.id FROM pg_catalog.unnest(changed) c);
    refused := v_able.refused || v_did.refused;
    IF v_able.ids <> '{}' THEN
        refused := (SELECT pg_catalog.jsonb_object_agg(f.job_id, coalesce(
                           f.fate, CASE WHEN f.job_id = ANY (v_did.tried) THEN 'trigger' ELSE 'locked' END))
                      FROM :"schema".undo_fates_v1(p_audit, chunk, v_able.ids) f) || refused;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.unnest(changed) c WHERE c.state = 'queued') THEN
        PERFORM :"schema".wake_v1();
    END IF;
END $$;
