-- Records what one transaction of a command changed, and returns the id of the command's audit row.
-- p_audit is that id if an earlier transaction of the command has made the row, else null. The row must have been written by
-- the same login in the same words within the last day, so that nobody adds to the record of another. The arrays are those of
-- change_slice_v1. Called by change_some_v1.
CREATE OR REPLACE FUNCTION record_change_v1(
    p_audit bigint, p_action text, p_detail jsonb, p_reason text, p_actor text,
    p_ids bigint[], p_before jsonb[], p_after jsonb[], p_payloads jsonb[]
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_audit bigint := p_audit;
BEGIN
    IF v_audit IS NULL THEN
        INSERT INTO :"schema".audit (actor, action, target, reason, job_ids, detail, jobs)
        VALUES (p_actor, p_action,
                CASE WHEN pg_catalog.cardinality(p_ids) = 1 THEN pg_catalog.concat('job ', p_ids[1]) ELSE 'jobs' END,
                p_reason, p_ids[1:100], p_detail, pg_catalog.cardinality(p_ids))
        RETURNING id INTO v_audit;
    ELSE
        UPDATE :"schema".audit AS a
           SET target = 'jobs', jobs = a.jobs + pg_catalog.cardinality(p_ids), job_ids = (pg_catalog.array_cat(a.job_ids, p_ids))[1:100]
         WHERE a.id = v_audit AND a.login = session_user AND a.at > pg_catalog.statement_timestamp() - '1 day'::interval
           AND (a.actor, a.action, a.detail, a.reason) IS NOT DISTINCT FROM (p_actor, p_action, p_detail, p_reason);
        IF NOT FOUND THEN
            RAISE EXCEPTION 'audit row % is not of this command', v_audit USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END IF;
    -- In chunks that an undo restores within a second, also if the application refuses each job.
    INSERT INTO :"schema".audit_chunks (audit_id, job_ids, before, after, payloads)
    SELECT v_audit, pg_catalog.array_agg(e.id ORDER BY e.id), pg_catalog.array_agg(e.before ORDER BY e.id),
           pg_catalog.array_agg(e.after ORDER BY e.id), pg_catalog.array_agg(e.payload ORDER BY e.id)
      FROM (SELECT c.*, pg_catalog.row_number() OVER (ORDER BY c.id) AS number
              FROM ROWS FROM (pg_catalog.unnest(p_ids), pg_catalog.unnest(p_before), pg_catalog.unnest(p_after), pg_catalog.unnest(p_payloads))
                   c (id, before, after, payload)) e
     GROUP BY (e.number - 1) / 500
     ORDER BY (e.number - 1) / 500;
    RETURN v_audit;
END $$;
