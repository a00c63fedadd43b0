-- Does what change_jobs_v1 says, and adds p_detail, a JSON object, to the detail of the audit row. No role may call it. So no
-- operator can write there that a change was that of a plan. Called by change_jobs_v1 and apply_chunk_v1.
CREATE OR REPLACE FUNCTION change_some_v1(
    p_action text, p_ids bigint[], p_with jsonb, p_where jsonb, p_faces jsonb[], p_reason text, p_actor text, p_audit bigint,
    p_detail jsonb,
    OUT changed jobs[], OUT refused jsonb, OUT audit_id bigint, OUT rest bigint[]
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    v_condition text := :"schema".job_condition_v1(coalesce(p_action, ''), p_with, p_where);
    v_ids       bigint[];
    v_faces     jsonb[];
    v_until     timestamptz := pg_catalog.clock_timestamp() + '0.25 s'::interval;
    v_end       integer;
    v_first     integer := 1;  -- the next ids to try: v_first to v_last
    v_last      integer;
    v_size      integer;
    v_did       record;
    v_tried     bigint[] := '{}';
    v_before    jsonb[] := '{}';
    v_after     jsonb[] := '{}';
    v_payloads  jsonb[] := '{}';
BEGIN
    PERFORM :"schema".wanted_job_v1(NULL, p_action, p_with);  -- raises an error if p_with cannot be meant
    IF cardinality(p_faces) <> cardinality(p_ids) THEN
        RAISE EXCEPTION 'there are % faces for % ids', cardinality(p_faces), cardinality(p_ids)
              USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT coalesce(array_agg(j.id ORDER BY j.id), '{}'), array_agg(j.face ORDER BY j.id) INTO v_ids, v_faces
      FROM (SELECT DISTINCT ON (w.id) w.id, w.face FROM ROWS FROM (unnest(p_ids), unnest(p_faces)) w (id, face)
             WHERE w.id IS NOT NULL) j;
    changed := '{}';
    refused := '{}';
    v_end := :"schema".batch_end_v1(v_ids, pg_column_size(p_with), p_action IN ('complete', 'discard'));
    v_size := 250;
    WHILE v_first <= v_end AND (v_first = 1 OR clock_timestamp() < v_until) LOOP
        v_last := least(v_first + v_size - 1, v_end);
        BEGIN
            SELECT * INTO v_did FROM :"schema".change_slice_v1(
                p_action, v_ids[v_first:v_last], p_with, v_condition, v_faces[v_first:v_last], p_reason, p_actor,
                cardinality(v_ids) = 1);
        EXCEPTION WHEN OTHERS THEN
            -- About no single job: a lost connection, a read-only server, a deadlock, a wait that is over, want of memory or
            -- disk, a shutdown, damage.
            IF left(SQLSTATE, 2) IN ('08', '25', '40', '53', '55', '57', '58', 'XX') THEN
                RAISE;
            ELSIF v_first = v_last THEN
                refused := refused || jsonb_build_object(v_ids[v_first]::text, 'database: ' || SQLERRM);
                v_first := v_first + 1;
            END IF;
            v_size := greatest((v_last - v_first) / 2, 1);
            CONTINUE;
        END;
        v_tried := v_tried || v_did.tried;
        changed := changed || v_did.changed;
        v_before := v_before || v_did.before;
        v_after := v_after || v_did.after;
        v_payloads := v_payloads || v_did.payloads;
        v_first := v_last + 1;
        v_size := 2 * v_size;
    END LOOP;
    rest := v_ids[v_first:];
    v_ids := v_ids[:v_first - 1];
    audit_id := p_audit;
    IF cardinality(changed) > 0 THEN
        audit_id := :"schema".record_change_v1(
            p_audit, p_action, p_detail || jsonb_build_object('with', p_with, 'where', p_where), p_reason,
            coalesce(p_actor, session_user), ARRAY(SELECT c.id FROM unnest(changed) c), v_before, v_after, v_payloads);
        IF p_action IN ('reschedule', 'retry', 'release') THEN
            PERFORM :"schema".wake_v1();
        END IF;
    END IF;
    refused := :"schema".why_unchanged_v1(p_action, v_ids, p_with, v_condition, v_faces, v_tried,
                                          ARRAY(SELECT c.id FROM unnest(changed) c)) || refused;
END $$;
