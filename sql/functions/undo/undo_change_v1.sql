-- Undoes the next chunk of an audit row, as undo_chunk_v1 does, and returns how many jobs it restored instead of their rows.
-- parked: the kinds of restored jobs that are paused although no pause of their kind stands. resume_kind_v1 and unpause_v1
-- queue them. Called by `audit undo`, one transaction for each chunk.
CREATE OR REPLACE FUNCTION undo_change_v1(
    p_audit bigint, p_after bigint, p_only bigint[], p_reason text, p_actor text, p_undo bigint,
    OUT chunk bigint, OUT restored integer, OUT refused jsonb, OUT undo_id bigint, OUT parked text[]
)
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT u.chunk, cardinality(u.changed), u.refused, u.undo_id,
           ARRAY(SELECT DISTINCT c.kind FROM unnest(u.changed) c
                  WHERE c.state = 'paused' AND NOT EXISTS (
                      SELECT FROM standing_holds h WHERE h.scope = 'kind' AND h.target = c.kind) ORDER BY 1)
      FROM undo_chunk_v1(p_audit, p_after, p_only, p_reason, p_actor, p_undo) u
$$;
