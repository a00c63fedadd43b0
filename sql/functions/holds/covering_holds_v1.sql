-- Lists the drains that cover a worker now.
-- Pauses are not in the list: the lease checks the kinds itself (held_kinds_v1).
-- Called by lease_v1 and start_v1, behind the gate, and by beat_v1.
CREATE OR REPLACE FUNCTION covering_holds_v1(p_worker uuid) RETURNS SETOF holds
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN QUERY
    SELECT h.*
      FROM standing_holds h, workers w
     WHERE w.id = p_worker
       AND (h.scope = 'fleet'
            OR (h.scope = 'host' AND h.target = w.host)
            OR (h.scope = 'unit' AND h.target = w.unit)
            OR (h.scope = 'worker' AND h.target = w.id::text));
END $$;
