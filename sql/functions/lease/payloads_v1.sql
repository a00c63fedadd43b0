-- The payloads of leased jobs that lease_v1 left out of its answer, in the order of p_ids: of the first, and of as many
-- more as come to 1 MiB in all, so that no answer grows beyond what a worker wants in its memory. A job whose payload is none for
-- a handler (payload_text_v1) has a fault instead, which says why. No row: the lease is lost, or it is not yet its turn.
-- Called by the main thread when the first job's turn comes.
CREATE OR REPLACE FUNCTION payloads_v1(p_ids bigint[], p_token uuid) RETURNS TABLE (id bigint, payload text, fault text)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
-- As in settle_v1: by the primary key, whatever the planner believes to know about a queue.
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_job  record;
    v_room bigint := 1048576;
BEGIN
    FOR v_job IN
        SELECT j.id, j.payload, e.at, pg_column_size(j.payload) AS stored,
               -- What is certain to be short needs no care: see lease_v1.
               CASE WHEN pg_column_size(j.payload) <= 2048 AND pg_column_compression(j.payload) IS NULL
                    THEN j.payload::text END AS written
          FROM unnest(p_ids) WITH ORDINALITY e (id, at), jobs j
         WHERE j.id = e.id AND j.lease_token = p_token AND j.state || '' = 'processing'
         ORDER BY e.at
    LOOP
        EXIT WHEN v_job.at > 1 AND v_job.stored > v_room;
        IF octet_length(v_job.written) <= 2 * v_job.stored THEN
            payload := v_job.written;
            fault := NULL;
        ELSE
            SELECT t.written, t.fault INTO payload, fault
              FROM payload_text_v1(v_job.payload, CASE WHEN v_job.at = 1 THEN 67108864 ELSE v_room END) t;
            EXIT WHEN v_job.at > 1 AND fault IS NOT NULL;  -- too long for the room that is left; maybe not for a handler
        END IF;
        id := v_job.id;
        RETURN NEXT;
        v_room := v_room - coalesce(octet_length(payload), 0);
    END LOOP;
END $$;
