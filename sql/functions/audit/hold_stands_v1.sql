-- Says whether the hold that an audit row set still stands exactly as that row set it: nobody has ended it, changed it, or set
-- it again. Called by show_audit_v1 and undo_hold_v1.
CREATE OR REPLACE FUNCTION hold_stands_v1(p_audit bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM :"schema".audit a JOIN :"schema".standing_holds h ON to_jsonb(h.id) = a.detail->'hold'
         WHERE a.id = p_audit AND a.action IN ('pause', 'drain')
           AND NOT EXISTS (SELECT FROM :"schema".audit l WHERE l.id > a.id AND l.target = a.target
                              AND l.detail->'hold' = a.detail->'hold'))
$$;
