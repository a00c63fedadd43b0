-- Takes jobs back from owners that are gone (return_dead_v1), and records that an operator asked for it.
-- The caller has locked the rows of p_ids, and says in p_error why their owner is gone. The other arguments are those of
-- record_change_v1. p_ids can be null. Returns the jobs that it changed, as they are now (null: none), and the audit row.
-- Called by force_unlock_workers and sweep_leases_v1.
CREATE OR REPLACE FUNCTION return_recorded_v1(
    p_ids bigint[], p_error text, p_action text, p_detail jsonb, p_reason text, p_actor text, p_audit bigint DEFAULT NULL,
    p_delay double precision DEFAULT 0,
    OUT changed jobs[], OUT audit_id bigint
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
-- As in settle_v1: by the primary key, because the planner's statistics of a queue are never up to date.
SET jit = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
DECLARE
    v_jobs   :"schema".jobs[] := ARRAY(SELECT j FROM :"schema".jobs j WHERE j.id = ANY (p_ids) ORDER BY j.id);
    v_before jsonb[];
    v_after  jsonb[];
BEGIN
    audit_id := p_audit;
    IF p_ids IS NULL THEN
        RETURN;
    END IF;
    PERFORM :"schema".return_dead_v1(p_ids, p_error, p_delay);
    SELECT array_agg(j ORDER BY j.id), array_agg(:"schema".job_face_v1(o) ORDER BY j.id),
           array_agg(:"schema".job_face_v1(j) ORDER BY j.id)
      INTO changed, v_before, v_after
      FROM unnest(v_jobs) o, :"schema".jobs j
     WHERE j.id = o.id AND j.state <> 'processing';
    IF changed IS NOT NULL THEN
        audit_id := :"schema".record_change_v1(
            p_audit, p_action, p_detail, p_reason, p_actor, ARRAY(SELECT c.id FROM unnest(changed) c), v_before, v_after,
            array_fill(NULL::jsonb, ARRAY[cardinality(changed)]));
        PERFORM :"schema".wake_v1();
    END IF;
END $$;
