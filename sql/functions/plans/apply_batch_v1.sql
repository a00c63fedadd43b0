-- Does the next chunk of a plan, as apply_chunk_v1 does, and returns how many jobs it changed instead of their rows.
-- Called by the command apply, one transaction for each chunk. A deferred constraint of the application is checked at once, so
-- that it refuses one job and not the whole chunk.
CREATE OR REPLACE FUNCTION apply_batch_v1(
    p_plan text, p_number integer, p_partial boolean, p_reason text, p_actor text,
    OUT applied boolean, OUT changed integer, OUT refused jsonb, OUT audit_id bigint
)
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SET CONSTRAINTS ALL IMMEDIATE;
    SELECT c.applied, cardinality(c.changed), c.refused, c.audit_id
      FROM apply_chunk_v1(p_plan, p_number, p_partial, p_reason, p_actor) c
$$;
