-- A worker's sign of life: what it does since when, and which jobs it has finished and can't settle yet. Answers with the drains
-- that cover it, as a JSON array; null if its row is gone (it must register again); false if somebody's lock on holds or workers
-- keeps it from looking: the worker lives all the same, and others must see that. Called by the control thread.
CREATE OR REPLACE FUNCTION beat_v1(
    p_worker uuid, p_state text, p_job bigint, p_kind text, p_running double precision, p_unsettled bigint[] DEFAULT '{}'
) RETURNS jsonb
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    UPDATE beats
       SET beat_at = clock_timestamp(), state = p_state, job_id = p_job, job_kind = p_kind,
           job_since = clock_timestamp() - make_interval(secs => p_running), unsettled = p_unsettled
     WHERE worker_id = p_worker;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    BEGIN
        RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object(
                           'scope', scope, 'target', target, 'reason', reason, 'actor', actor)), '[]')
                  FROM covering_holds_v1(p_worker));
    EXCEPTION WHEN lock_not_available THEN
        RETURN 'false';
    END;
END $$;
