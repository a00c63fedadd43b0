-- Returns jobs whose lease has expired, of any kind, at most p_limit. A lease without an expiry counts as expired.
-- Called about once a second by the main thread of each worker; two at once share the work (SKIP LOCKED).
CREATE OR REPLACE FUNCTION sweep_v1(p_limit integer DEFAULT 100) RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
BEGIN
    SELECT array_agg(e.id) INTO v_ids
      FROM (SELECT j.id FROM jobs j
             WHERE j.state = 'processing' AND coalesce(j.lease_expires_at, '-infinity'::timestamptz) <= clock_timestamp()
             ORDER BY coalesce(j.lease_expires_at, '-infinity'::timestamptz)
             LIMIT p_limit
               FOR UPDATE SKIP LOCKED) e;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;
    PERFORM wake_v1();
    RETURN QUERY SELECT * FROM return_crashed_v1(v_ids, 'the lease expired: its owner died, hung or lost the database');
END $$;
