-- Takes all jobs back from workers that are gone, whose leases have not expired yet, and removes the rows of these workers.
-- A worker is named by its uuid, or by <host>:<pid>. <host>:* names all workers of a host. An unknown name means nothing.
-- If one of the workers beats, the function raises an error (object_in_use), and nothing changes. With accept_second_run, it
-- takes the jobs of that worker, too: they may run a second time beside it. It is fenced off and can write nothing of them. Its
-- row stays. If several workers have one <host>:<pid> and one of them beats, the name is refused in any case: give the uuid.
-- The jobs return as those of any dead worker do (return_crashed_v1): their attempts are given back, and the crash counts. So a
-- job that kills its worker fails at the third crash, even if somebody unlocks its worker each time.
-- The function waits at most one second for a job that somebody has locked, and then leaves that job to the expiry of its
-- lease. It also leaves a job that the database refuses to return. The row of its worker stays.
-- Returns the jobs that it returned, as they are now. One audit row records all. You cannot undo it.
--
-- It runs with the rights of the owner, so that an operator can return no lease without an audit row.
CREATE OR REPLACE FUNCTION force_unlock_workers(
    worker_ids text[], accept_second_run boolean DEFAULT false, reason text DEFAULT NULL, actor text DEFAULT session_user
) RETURNS SETOF jobs
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
SET lock_timeout = '1s' SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    v_all     jsonb := (SELECT pg_catalog.jsonb_agg(n) FROM :"schema".named_workers_v1(worker_ids) n);
    v_workers uuid[] := ARRAY(SELECT DISTINCT (w->>'id'::text)::uuid FROM pg_catalog.jsonb_array_elements(v_all) w
                               WHERE w->>'id'::text IS NOT NULL);
    v_names   text[] := ARRAY(SELECT w->>'leased_by'::text FROM pg_catalog.jsonb_array_elements(v_all) w);
    v_leases  text := pg_catalog.format(
        'SELECT pg_catalog.array_agg(l.id) FROM (SELECT j.id FROM %I.jobs j WHERE j.state = ''processing'''
        ' AND (j.worker_id = ANY ($1) OR j.worker_id IS NULL AND j.leased_by = ANY ($2)) FOR UPDATE) l', :'schema');
    v_ids     bigint[];
    v_said    text;
    v_detail  jsonb;
    v_done    record;
    v_removed integer;
BEGIN
    IF pg_catalog.current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'force_unlock_workers needs READ COMMITTED, this transaction is %',
            pg_catalog.current_setting('transaction_isolation');  -- others do not see the last beats
    END IF;
    BEGIN
        EXECUTE v_leases INTO v_ids USING v_workers, v_names;
    EXCEPTION WHEN lock_not_available THEN
        EXECUTE pg_catalog.replace(v_leases, 'FOR UPDATE', 'FOR UPDATE SKIP LOCKED') INTO v_ids USING v_workers, v_names;
        RAISE WARNING 'somebody has locked a job of these workers: it returns when its lease expires';
    END;
    -- Now, because a worker may have beaten during the wait.
    SELECT pg_catalog.jsonb_agg(n) INTO v_all FROM :"schema".named_workers_v1(worker_ids) n;
    SELECT pg_catalog.string_agg(pg_catalog.format(
               '%s is the name of %s workers: %s', m.name, m.number, m.each), '; ') INTO v_said
      FROM (SELECT n->>'name'::text AS name, count(*) AS number,
                   pg_catalog.string_agg(coalesce(n->>'id'::text, 'none') || CASE WHEN (n->>'lives'::text)::boolean THEN ' beats'
                                                                            ELSE ' is silent' END, ', ') AS each
              FROM pg_catalog.jsonb_array_elements(v_all) n
             WHERE n->>'name'::text NOT LIKE '%:*'::text GROUP BY 1
            HAVING count(*) > 1 AND pg_catalog.bool_or((n->>'lives'::text)::boolean)) m;
    IF v_said IS NOT NULL THEN
        RAISE EXCEPTION 'one of several workers of the same name lives, so give the uuid of the dead one: %', v_said
            USING ERRCODE = 'object_in_use';
    END IF;
    IF NOT coalesce(accept_second_run, false) THEN
        SELECT pg_catalog.string_agg(pg_catalog.format('%s (uuid %s) beat %s s ago',
                                                       a.worker->>'leased_by'::text, a.worker->>'id'::text,
                                                       a.worker->>'beat_seconds'::text), '; ')
          INTO v_said
          FROM (SELECT DISTINCT n - 'name'::text AS worker FROM pg_catalog.jsonb_array_elements(v_all) n
                 WHERE (n->>'lives'::text)::boolean) a;
    END IF;
    IF v_said IS NOT NULL THEN
        RAISE EXCEPTION 'a worker lives: %', v_said USING ERRCODE = 'object_in_use';
    END IF;
    v_detail := pg_catalog.jsonb_build_object(
        'workers', (SELECT coalesce(pg_catalog.jsonb_agg(DISTINCT n - 'name'::text), '[]')
                      FROM pg_catalog.jsonb_array_elements(v_all) n),
        'accept_second_run', accept_second_run);
    SELECT * INTO v_done FROM :"schema".return_recorded_v1(
        v_ids, pg_catalog.concat_ws(': ', 'its worker was unlocked by ' || actor, reason), 'unlock', v_detail, reason, actor);
    v_removed := :"schema".remove_workers_v1(ARRAY(
        SELECT (n->>'id'::text)::uuid FROM pg_catalog.jsonb_array_elements(v_all) n WHERE NOT (n->>'lives'::text)::boolean));
    IF v_done.audit_id IS NULL AND v_removed > 0 THEN
        INSERT INTO :"schema".audit (actor, action, target, reason, detail)
        VALUES (actor, 'unlock', 'workers', reason, v_detail);
    END IF;
    RETURN QUERY SELECT * FROM pg_catalog.unnest(v_done.changed);
END $$;
