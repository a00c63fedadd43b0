-- Puts right what nobody else will, about once a second in each worker, between two of its jobs; two at once share the
-- work (SKIP LOCKED). Returns the jobs that it touched:
--   released         leases of this worker that it knows nothing of (release_strays_v1)
--   crashed, poison  leases that expired, of any kind and any worker, at most p_limit; one without an expiry counts as
--                    expired. Not with p_expired false: a worker that has just found the database again gives the
--                    others, who lost it too, the time to renew.
-- Holds that reached their end are taken away, and what they had marked paused goes back into the queue.
CREATE OR REPLACE FUNCTION sweep_v1(p_worker uuid, p_expired boolean DEFAULT true, p_limit integer DEFAULT 100)
RETURNS TABLE (id bigint, kind text, outcome text)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
BEGIN
    RETURN QUERY SELECT s.id, s.kind, 'released' FROM release_strays_v1(p_worker) s;
    IF EXISTS (SELECT FROM holds WHERE until <= clock_timestamp()) THEN
        PERFORM end_expired_holds_v1();
    END IF;
    IF NOT p_expired THEN
        RETURN;
    END IF;
    SELECT array_agg(e.id) INTO v_ids
      FROM (SELECT j.id FROM jobs j
             WHERE j.state = 'processing' AND coalesce(j.lease_expires_at, '-infinity'::timestamptz) <= clock_timestamp()
             ORDER BY coalesce(j.lease_expires_at, '-infinity'::timestamptz)
             LIMIT p_limit
               FOR UPDATE SKIP LOCKED) e;
    IF v_ids IS NOT NULL THEN
        PERFORM wake_v1();
        RETURN QUERY
        SELECT * FROM return_crashed_v1(v_ids, 'the lease expired: its owner died, hung or lost the database');
    END IF;
END $$;
