-- Explains the state of a job as one check of explain_job_v1. A lease takes queued jobs only. Beside check, ok, since and state:
--   of processing  leased_by, worker, unit, silent, beat_at, beat_seconds, lease_expires_at, expires_seconds; gives_up_seconds as
--                  in workers_v1. runs as in leases_v1, and job_id is what its owner runs in place of it
--   of failed      error, and in outcome and by how it ended last and at which worker. since is null if the history does not
--                  tell it
--   of paused      by_hand: no pause of its kind stands, so somebody changed the row
CREATE OR REPLACE FUNCTION state_check_v1(p_job jobs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    v_check jsonb := jsonb_build_object('check', 'state', 'ok', p_job.state = 'queued', 'since', NULL, 'state', p_job.state);
BEGIN
    RETURN v_check || CASE p_job.state
        WHEN 'processing' THEN (
            SELECT jsonb_build_object(
                       'since', readable_v1(p_job.leased_at), 'leased_by', p_job.leased_by, 'worker', p_job.worker_id,
                       'unit', w.unit, 'silent', NOT lives_v1(b.beat_at), 'beat_at', readable_v1(b.beat_at),
                       'beat_seconds', seconds_since_v1(b.beat_at),
                       'gives_up_seconds', w.gives_up - least(seconds_since_v1(b.beat_at), seconds_since_v1(p_job.leased_at)),
                       'lease_expires_at', readable_v1(p_job.lease_expires_at),
                       'expires_seconds', CASE WHEN coalesce(p_job.lease_expires_at, '-infinity') = '-infinity' THEN 0
                                               ELSE -seconds_since_v1(p_job.lease_expires_at) END,
                       'unsettled', coalesce(p_job.id = ANY (b.unsettled), false),
                       'runs', r.job_id = p_job.id, 'job_id', nullif(r.job_id, p_job.id))
              FROM (SELECT p_job.worker_id AS id) o LEFT JOIN workers w ON w.id = o.id LEFT JOIN beats b ON b.worker_id = o.id
                   LEFT JOIN running_v1() r ON r.worker_id = o.id)
        WHEN 'failed' THEN (
            SELECT jsonb_build_object('since', e.finished_at, 'outcome', e.outcome, 'by', e.leased_by)
              FROM (SELECT) o LEFT JOIN last_end_v1(p_job.id) e ON e.outcome IN ('failed', 'poison'))
        WHEN 'paused' THEN (
            SELECT jsonb_build_object('since', CASE WHEN coalesce(h.until > clock_timestamp(), true) THEN readable_v1(h.created) END,
                                      'ended', CASE WHEN h.until <= clock_timestamp() THEN readable_v1(h.until) END,
                                      'by_hand', h.id IS NULL)
              FROM (SELECT) o LEFT JOIN holds h ON h.scope = 'kind' AND h.target = p_job.kind)
        ELSE '{}' END;
END $$;
