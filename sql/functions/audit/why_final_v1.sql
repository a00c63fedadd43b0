-- Returns why the jobs of an audit row can't be restored; null if they can. Called by undo_chunk_v1 and show_audit_v1.
CREATE OR REPLACE FUNCTION why_final_v1(p_audit audit) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN p_audit.id IS NULL THEN 'there is no such row'
        WHEN p_audit.action IN ('pause', 'drain', 'resume', 'expire') THEN 'it is about a hold, not about jobs'
        WHEN p_audit.action IN ('ramp', 'stop') THEN pg_catalog.concat(
            'a ramp is not taken back. To hold ', p_audit.target, ' wholly: pause-kind. To end its pause: resume-kind')
        WHEN p_audit.action = 'forget-index' THEN 'a run of search.reindex makes the index again'
        WHEN p_audit.action IN ('release', 'unlock', 'sweep') THEN 'a lease that was ended cannot be given back to its worker'
        WHEN p_audit.forgotten_at IS NOT NULL THEN pg_catalog.concat(
            'the old values of its jobs were dropped on ', pg_catalog.timezone('UTC', p_audit.forgotten_at)::date,
            ' (history drop --undo-days)')
        WHEN NOT EXISTS (SELECT FROM :"schema".audit_chunks c WHERE c.audit_id = p_audit.id) THEN
            CASE WHEN p_audit.job_ids = '{}' THEN 'it changed no job'
                 ELSE 'it was written before the record kept how the jobs were' END
        END
$$;
