-- Returns the payloads that lease_v1 left out of its answer: the first of p_ids, and as many of the next ones as 1 MiB holds.
-- So no answer takes more of the worker's memory than that, except for one long first payload.
-- A payload that no handler can take has a fault instead, which says why. Its text has more than 64 MiB, or cannot be made
-- (payload_text_v1). A job without a row has lost its lease, or its turn comes later.
-- Called by the main thread when the turn of the first job comes.
CREATE OR REPLACE FUNCTION payloads_v1(p_ids bigint[], p_token uuid) RETURNS TABLE (id bigint, payload text, fault text)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
-- As in settle_v1: one plan, by the primary key, because the planner's statistics of a queue are never up to date.
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_job  record;
    v_room bigint := 1048576;
BEGIN
    FOR v_job IN
        SELECT j.id, j.payload, e.at, pg_column_size(j.payload) AS stored,
               -- A payload that is certain to be short needs no check: see lease_v1.
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
            EXIT WHEN v_job.at > 1 AND fault IS NOT NULL;  -- too long for the rest of this answer, but maybe not for a handler
        END IF;
        id := v_job.id;
        RETURN NEXT;
        v_room := v_room - coalesce(octet_length(payload), 0);
    END LOOP;
END $$;
