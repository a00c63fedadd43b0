-- Does one action to the jobs of a batch, as change_jobs_v1 does, and returns how many it changed instead of their rows.
-- transaction_id tells batch_fate_v1 later whether the batch was committed.
-- Called by the commands, one transaction for each batch. A deferred constraint of the application is checked at once, so that
-- it refuses one job and not the whole batch.
CREATE OR REPLACE FUNCTION change_batch_v1(
    p_action text, p_ids bigint[], p_with jsonb, p_where jsonb, p_reason text, p_actor text, p_audit bigint,
    OUT changed integer, OUT refused jsonb, OUT audit_id bigint, OUT transaction_id text, OUT rest bigint[]
)
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SET CONSTRAINTS ALL IMMEDIATE;
    SELECT cardinality(c.changed), c.refused, c.audit_id, pg_current_xact_id()::text, c.rest
      FROM change_jobs_v1(p_action, p_ids, p_with, p_where, p_reason => p_reason, p_actor => p_actor, p_audit => p_audit) c
$$;
