-- Does one action to any number of jobs in the caller's transaction, and returns the jobs that it changed.
-- The arguments are those of change_jobs_v1. An id that comes twice counts once. One audit row records all.
-- Called by the functions that are named as in Graphile Worker (complete_jobs, ...). A command changes many jobs in many
-- transactions: it calls change_batch_v1.
CREATE OR REPLACE FUNCTION change_all_v1(
    p_action text, p_ids bigint[], p_with jsonb, p_reason text, p_actor text, p_where jsonb DEFAULT '{}'
) RETURNS SETOF jobs
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_ids   bigint[] := ARRAY(SELECT DISTINCT i FROM pg_catalog.unnest(p_ids) i WHERE i IS NOT NULL ORDER BY i);
    v_first integer := 1;
    v_done  record;
    v_audit bigint;
BEGIN
    WHILE v_first <= pg_catalog.cardinality(v_ids) LOOP
        SELECT * INTO v_done FROM :"schema".change_jobs_v1(
            p_action, v_ids[v_first : v_first + 2499], p_with, p_where, p_reason => p_reason, p_actor => p_actor, p_audit => v_audit);
        v_audit := v_done.audit_id;
        v_first := least(v_first + 2500, 1 + pg_catalog.cardinality(v_ids)) - pg_catalog.cardinality(v_done.rest);
        IF p_action IN ('complete', 'discard') THEN
            RETURN QUERY SELECT * FROM pg_catalog.unnest(v_done.changed);
        ELSE
            RETURN QUERY SELECT j.* FROM pg_catalog.unnest(v_done.changed) c, :"schema".jobs j WHERE j.id = c.id;
        END IF;
    END LOOP;
END $$;
