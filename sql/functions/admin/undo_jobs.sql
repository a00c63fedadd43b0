-- Undoes what a command or a function has done to jobs: all of an audit row, in your transaction.
-- A job that nobody has touched since is as it was before. A job that was completed or discarded is in the queue again, with
-- its old id. Returns the jobs that it restored. A notice counts the others, and says why of the first five. The undo has an
-- audit row of its own. To undo the undo, give that row's id.
-- It needs READ COMMITTED: otherwise it could not see that a job was restored and has run since.
-- For a million jobs use `audit undo`: it needs no long transaction.
CREATE OR REPLACE FUNCTION undo_jobs(audit_id bigint, reason text DEFAULT NULL, actor text DEFAULT session_user)
RETURNS SETOF jobs
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_chunk bigint := 0;
    v_undo  bigint;
    v_did   record;
    v_left  bigint := 0;
    v_why   text[] := '{}';
BEGIN
    LOOP
        SELECT * INTO v_did FROM :"schema".undo_chunk_v1(audit_id, v_chunk, NULL, reason, actor, v_undo);
        EXIT WHEN v_did.chunk IS NULL;
        v_chunk := v_did.chunk;
        v_undo := v_did.undo_id;
        v_left := v_left + (SELECT count(*) FROM pg_catalog.jsonb_object_keys(v_did.refused));
        v_why := (v_why || ARRAY(SELECT pg_catalog.concat('job ', w.key, ' ', w.value) FROM pg_catalog.jsonb_each_text(v_did.refused) w LIMIT 5))[:5];
        RETURN QUERY SELECT j.* FROM pg_catalog.unnest(v_did.changed) c, :"schema".jobs j WHERE j.id = c.id
                     UNION ALL SELECT c.* FROM pg_catalog.unnest(v_did.changed) c WHERE NOT EXISTS (SELECT FROM :"schema".jobs j WHERE j.id = c.id);
    END LOOP;
    IF v_left > 0 THEN
        RAISE NOTICE 'not restored: % job(s). %', v_left, pg_catalog.array_to_string(v_why, '; ');
    END IF;
END $$;
