-- Drops old rows of the audit record, for its owner. Nobody else has the right to call it, or to delete such rows.
--   p_audit_days  a row that is older goes, with all that belongs to it
--   p_undo_days   of a row that is older, the old values of the jobs go: such a row can't be undone any more
--   p_limit       how many rows one call may take of each
-- Returns how many rows went, and of how many more the old values went. Call it, each time in a transaction of its own, until
-- both are 0. A row that somebody undoes at this moment is left to the next run. Called by `history drop`.
CREATE OR REPLACE FUNCTION prune_audit_v1(
    p_audit_days integer, p_undo_days integer, p_limit integer DEFAULT 100, OUT dropped bigint, OUT forgotten bigint
)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    v_rows bigint[];
BEGIN
    v_rows := ARRAY(SELECT a.id FROM audit a WHERE a.at < statement_timestamp() - make_interval(days => p_audit_days)
                     ORDER BY a.at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    DELETE FROM audit a WHERE a.id = ANY (v_rows);
    dropped := cardinality(v_rows);
    v_rows := ARRAY(SELECT a.id FROM audit a
                     WHERE a.at < statement_timestamp() - make_interval(days => p_undo_days)
                       AND a.jobs > 0 AND a.forgotten_at IS NULL
                     ORDER BY a.at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    DELETE FROM audit_chunks c WHERE c.audit_id = ANY (v_rows);
    UPDATE audit a SET forgotten_at = clock_timestamp() WHERE a.id = ANY (v_rows);
    forgotten := cardinality(v_rows);
END $$;
