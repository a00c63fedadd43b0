-- Returns how many of the first of these jobs one transaction may change: what it must hold of them in memory is at most 8 MB.
-- At least 1. p_each: how many bytes it adds to each job. p_payloads: does it need the payloads, too? Called by change_some_v1.
CREATE OR REPLACE FUNCTION batch_end_v1(p_ids bigint[], p_each integer, p_payloads boolean) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
DECLARE
    v_size  bigint;
    v_bytes bigint := 0;
    v_end   integer := 0;
BEGIN
    -- An array holds its values as they are, not compressed. The loop reads no further than it must.
    FOR v_size IN
        SELECT (SELECT pg_column_size(ARRAY[j.last_error]) + CASE WHEN p_payloads THEN pg_column_size(ARRAY[j.payload]) ELSE 0 END
                  FROM :"schema".jobs j WHERE j.id = w.id)
          FROM pg_catalog.unnest(p_ids) w (id)
    LOOP
        v_bytes := v_bytes + coalesce(v_size, 0) + p_each;
        EXIT WHEN v_bytes > 8388608 AND v_end > 0;
        v_end := v_end + 1;
    END LOOP;
    RETURN v_end;
END $$;
