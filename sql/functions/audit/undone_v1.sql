-- Returns how many jobs of an audit row are undone now. What was undone and then done again does not count.
-- It is a loop, because people can undo undos without end, and recursion would exceed PostgreSQL's max_stack_depth.
-- Called by list_audit_v1 and show_audit_v1.
CREATE OR REPLACE FUNCTION undone_v1(p_audit bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    v_rows   bigint[] := ARRAY[p_audit];  -- the undos of these are counted next
    v_sign   integer := 1;                -- an undo of an undo does the jobs again
    v_jobs   bigint;
    v_undone bigint := 0;
BEGIN
    LOOP
        SELECT array_agg(u.id), sum(u.jobs) INTO v_rows, v_jobs
          FROM audit u
         WHERE u.action = 'undo' AND u.detail->'undoes' = ANY (ARRAY(SELECT to_jsonb(r) FROM unnest(v_rows) r))
           AND u.id > (SELECT min(r) FROM unnest(v_rows) r);
        EXIT WHEN v_rows IS NULL;
        v_undone := v_undone + v_sign * v_jobs;
        v_sign := -v_sign;
    END LOOP;
    RETURN v_undone;
END $$;
