-- Returns one job with the history of its leases, as a JSON object.
-- The job is its row in jobs or, once that is gone, its last row in the history. Returns null for an id that never existed,
-- or whose history was dropped. Of a job that waits, hold is the pause of its kind with its ramp (kind_hold_v1), or null. A
-- payload of more than 1 MiB and long errors are cut as in shown_job_v1.
CREATE OR REPLACE FUNCTION show_job_v1(p_id bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
DECLARE
    v_most    bigint := 1048576;
    v_job     jobs;
    v_last    job_history;
    v_payload record;
    v_shown   jsonb;
BEGIN
    SELECT * INTO v_job FROM jobs WHERE id = p_id;
    IF FOUND THEN
        v_shown := shown_job_v1(v_job, v_most);
        IF v_job.state IN ('queued', 'paused') THEN
            v_shown := v_shown || jsonb_build_object('hold', kind_hold_v1(v_job.kind));
        END IF;
    ELSE
        SELECT * INTO v_last FROM job_history WHERE id = p_id ORDER BY finished_at DESC LIMIT 1;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        SELECT * INTO v_payload FROM payload_text_v1(v_last.payload, v_most);
        v_last.payload := NULL;
        v_last.error := left(v_last.error, 10000);
        v_shown := to_jsonb(v_last)
            || jsonb_build_object('payload', v_payload.written, 'leased_at', readable_v1(v_last.leased_at),
                                  'finished_at', readable_v1(v_last.finished_at))
            || jsonb_strip_nulls(jsonb_build_object('payload_cut', v_payload.fault));
    END IF;
    RETURN v_shown || jsonb_build_object('history', (
        SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.finished_at), '[]')
          FROM (SELECT h.outcome, h.attempts, h.leased_by, readable_v1(h.leased_at) AS leased_at,
                       readable_v1(h.finished_at) AS finished_at, left(h.error, 10000) AS error,
                       h.lease_token, h.retention
                  FROM job_history h WHERE h.id = p_id) s));
END $$;
