-- Lists jobs in the order of their ids, as one JSON object each (shown_job_v1, with at most 4 KiB of a payload).
-- p_state (a word of job_condition_v1) and p_kind select; null means any. It returns at most p_limit jobs, with ids above p_after.
-- A list that goes on behind the last id of the page before has each job exactly once that is in the state all the time.
--
-- Few jobs among many may be the ones to list, and they may have the highest ids of all. Running, paused and failed ones are found
-- through an index of their own. No index has the queued ones in the order of ids. So the function goes two ways at once, some
-- rows at a time: over the table by id, until it has found a page; and over jobs_queue, until it knows all ids that are meant. It
-- ends with the way that ends first. Many jobs are found soon by the first way, and few by the second.
CREATE OR REPLACE FUNCTION list_jobs_v1(p_state text, p_kind text, p_limit integer, p_after bigint DEFAULT NULL)
RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
DECLARE
    v_now      timestamptz := statement_timestamp();
    v_after    bigint := coalesce(p_after, -9223372036854775808);
    v_where    jsonb := jsonb_strip_nulls(jsonb_build_object('state', p_state, 'kind', p_kind));
    v_walk     text := format(
        'SELECT coalesce(array_agg(w.id) FILTER (WHERE w.meant), ''{}''), max(w.id), count(*)'
        ' FROM (SELECT j.id, %s AS meant FROM %I.jobs j WHERE j.id > $1 AND j.id <= $2 ORDER BY j.id LIMIT $3) w',
        job_condition_v1(NULL, '{}', v_where), current_schema());
    v_limit    integer := coalesce(p_limit, 2147483647);
    v_most     integer := greatest(10000, least(v_limit, 100000));
    v_rows     integer := least(v_limit, v_most);  -- so many are read at a time
    v_count    integer;
    v_more     bigint[];
    v_below    bigint;              -- the first way need not go further
    v_at       bigint := v_after;   -- how far it came
    v_walked   bigint[] := '{}';    -- what it found
    v_ids      bigint[] := '{}';    -- what the indexes have: at most v_limit, the lowest
    v_parked   text;
    v_left     integer;
    v_kind     text := coalesce(p_kind, '');  -- where the second way is in jobs_queue
    v_priority integer := -32769;
    v_open     boolean := false;              -- inside a kind and priority
    v_run_at   timestamptz;
    v_id       bigint;
    v_until    timestamptz := CASE WHEN p_state = 'ready' THEN v_now ELSE 'infinity' END;
    v_fleet    boolean := EXISTS (SELECT FROM standing_holds h WHERE h.scope = 'fleet');
    v_seen     text;                          -- the kind that was asked last for its hold
    v_held     boolean;
BEGIN
    IF p_state = 'processing' OR (p_state IS NULL AND p_kind IS NOT NULL) THEN
        v_more := ARRAY(SELECT j.id FROM jobs j WHERE j.state = 'processing' AND (p_kind IS NULL OR j.kind = p_kind));
        v_ids := ARRAY(SELECT u.id FROM unnest(v_more) u (id) WHERE u.id > v_after ORDER BY u.id LIMIT v_limit);
    END IF;
    FOREACH v_parked IN ARRAY CASE WHEN p_state IN ('paused', 'failed') THEN ARRAY[p_state] WHEN p_state = 'held' THEN '{paused}'
                                   WHEN p_state IS NULL AND p_kind IS NOT NULL THEN '{paused,failed}' ELSE '{}' END::text[]
    LOOP
        v_more := v_ids || parked_ids_v1(v_parked, p_kind, v_limit, v_after);
        v_ids := ARRAY(SELECT u.id FROM unnest(v_more) u (id) ORDER BY u.id LIMIT v_limit);
    END LOOP;
    v_below := coalesce(v_ids[v_limit], 9223372036854775807);

    <<ways>>
    WHILE p_state IS NULL OR p_state NOT IN ('processing', 'paused', 'failed') LOOP
        EXECUTE v_walk INTO v_more, v_at, v_count USING v_at, v_below, v_rows;
        v_walked := v_walked || v_more;
        IF cardinality(v_walked) >= v_limit OR v_count < v_rows THEN
            v_ids := v_walked[:v_limit];
            EXIT;
        END IF;

        v_left := v_rows;
        v_more := v_ids;
        WHILE v_left > 0 LOOP
            IF NOT v_open THEN
                SELECT j.kind, j.priority, j.run_at INTO v_kind, v_priority, v_run_at FROM jobs j
                 WHERE j.state = 'queued' AND (j.kind, j.priority) > (v_kind, v_priority)
                 ORDER BY j.kind, j.priority, j.run_at LIMIT 1;
                IF v_kind IS NULL OR v_kind <> p_kind THEN
                    v_ids := ARRAY(SELECT u.id FROM unnest(v_more) u (id) WHERE u.id > v_after ORDER BY u.id LIMIT v_limit);
                    EXIT ways;
                END IF;
                v_left := v_left - 20;  -- this takes as long as that many rows
                IF p_state IN ('ready', 'held') AND v_seen IS DISTINCT FROM v_kind THEN
                    v_seen := v_kind;
                    v_held := v_fleet OR EXISTS (SELECT FROM standing_holds h WHERE h.scope = 'kind' AND h.target = v_kind);
                END IF;
                IF v_held <> (p_state = 'held') THEN
                    v_priority := 32767;  -- the next kind
                    CONTINUE;
                END IF;
                v_open := true;
                v_id := -9223372036854775808;
                IF p_state = 'scheduled' AND v_run_at <= v_now THEN
                    v_run_at := v_now;
                    v_id := 9223372036854775807;
                END IF;
            END IF;
            SELECT v_more || array_agg(c.id), max(c.run_at), (array_agg(c.id))[count(*)], count(*)
              INTO v_more, v_run_at, v_id, v_count
              FROM (SELECT j.id, j.run_at FROM jobs j
                     WHERE j.state = 'queued' AND j.kind = v_kind AND j.priority = v_priority
                       AND (j.run_at, j.id) > (v_run_at, v_id) AND j.run_at <= v_until
                     ORDER BY j.run_at, j.id LIMIT greatest(v_left, 1)) c;
            v_open := v_count >= greatest(v_left, 1);
            v_left := v_left - v_count;
        END LOOP;
        v_ids := ARRAY(SELECT u.id FROM unnest(v_more) u (id) WHERE u.id > v_after ORDER BY u.id LIMIT v_limit);
        v_rows := least(4 * v_rows, v_most);
    END LOOP;
    RETURN QUERY SELECT shown_job_v1(j, 4096) FROM jobs j WHERE j.id = ANY (v_ids) ORDER BY j.id;
END $$;
