-- Leases the next jobs for a worker (queued → processing), and returns a report and those jobs.
--
-- Where it looks: at ranges of the index jobs_queue, in the order of the arrays. A range has one kind (p_kinds), its
-- priorities from p_low to p_high, and begins behind p_since (seconds since 1970) and p_after (an id). The worker remembers
-- where its last scan ended and goes on from there. Behind that point lie dead index entries, which pile up while somebody
-- holds a snapshot. See shithubd_worker/turn/frontier.py. The other arguments:
--   p_worker    the worker's uuid; p_token is the lease token for all jobs of this query
--   p_seconds   the lease timeout of each range's kind
--   p_most      the most jobs to lease of each range's kind. That many jobs fill one window; all jobs of the query
--               together fill at most one.
--   p_wakeable  true: if there is no job, the next enqueue must wake this worker (shithubd_worker/turn/damping.py). From
--               then on its session holds lock 7304 shared, until a turn gives it jobs or finds it held. The end of a hold
--               wakes all workers. Null: the worker only polls, because its session is a pooler's, whose locks are not ours.
--   p_skip      jobs to pass over
--   p_careful   true in the turn after one that the database refused. p_most is 1 then, and the function finds out whether
--               the job that it would lease is the cause.
--
-- Returns no row if a drain covers the worker, or if the worker has no row in workers. Else the first row is a report, and
-- each other row is a leased job. "range" is the number of the job's range, from 1, which stands for its kind. The content
-- of a job is its payload, or null unless the payload is certain to be short. So the answer fits the buffers of a socket
-- that nobody reads, and no payload's text can make the lease fail (payloads_v1 fetches the others).
-- In the report only content is set, a JSON object:
--   now_us   the database's clock when it began to look, in microseconds since 1970
--   took_us  how many microseconds the looks took
--   visited  how many of the ranges it looked at to their end
--   deaf     true: p_wakeable was given, but the worker cannot rely on being woken
--   walked   for ranges of several priorities: pairs of a range and the priority up to which it gave nothing. The next turn
--            must go on behind that priority. So no turn takes long.
--   shut     null; or the kinds whose ramps let nothing more through now (ramp_rooms_v1). Jobs of theirs may become free at any
--            place.
--   again    null; or in how many seconds to look again, because of these ramps
--   refused  null; or, with p_careful, the job that the database refuses to lease: its range, its id, and why
--
-- This form costs a turn 2 microseconds. A column that tells the two kinds of rows apart, or columns for the report, would
-- cost each job 0.1 to 0.2.
--
-- Raises an error outside of READ COMMITTED.
--
-- Locks: the gate, which is a lock of the table gate. A statement of its own takes the gate before another statement leases.
-- Each statement has its own snapshot, so a lease that began after the commit of a hold sees that hold. To be sure of a
-- hold, barrier_v1 waits for the transactions that have the gate at that moment. In one statement the snapshot would be
-- older than the lock. It locks ramps (ramp_rooms_v1), and never waits for one.
--
-- Called by the main thread of a worker, also ahead, while a handler runs. Its transaction has the settle_v1 of the same
-- turn too, if there is one. The server ends that transaction even if the worker reads the answer much later.
CREATE OR REPLACE FUNCTION lease_v1(
    p_worker uuid, p_token uuid,
    p_kinds text[], p_low smallint[], p_high smallint[], p_since double precision[], p_after bigint[],
    p_seconds double precision[], p_most integer[], p_wakeable boolean DEFAULT true,
    p_skip bigint[] DEFAULT '{}', p_careful boolean DEFAULT false
) RETURNS TABLE (id bigint, "range" integer, content text, attempts integer, max_attempts integer, crashes integer,
                 priority smallint, run_at double precision)
LANGUAGE plpgsql SET search_path FROM CURRENT
-- One plan for all backlogs, along jobs_queue: the planner's statistics of a queue are never up to date.
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_now       timestamptz;
    v_held      text[] := '{}';
    v_leased_by text;
    v_holds     boolean;
    v_range     record;
    v_most      integer;
    v_share     double precision := 1;  -- of the window: the part that is not filled yet
    v_found     bigint[];
    v_alone     boolean[];
    v_full      boolean := false;  -- the last range may have more
    v_priority  smallint;
    v_run_at    timestamptz;
    v_took      double precision;
    v_in_vain   integer := 0;  -- priorities that gave nothing, in ranges of several
    v_walked    integer[] := '{}';
    v_why       text;
    v_refused   json;
    v_ids       bigint[] := '{}';
    v_ranges    integer[] := '{}';
    v_expiries  timestamptz[] := '{}';
    v_visited   integer := cardinality(p_kinds);
    v_deaf      boolean := false;
    v_shut      text[];     -- kinds whose ramps let nothing through now
    v_open      text[];     -- kinds whose ramps let some jobs through, and how many
    v_rooms     integer[];
    v_at        bigint;     -- where the kind stands in these
    v_again     double precision;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'lease_v1 needs READ COMMITTED, this transaction is %', current_setting('transaction_isolation')
            USING HINT = 'A lease could miss a hold if its snapshot were older than the gate.';
    END IF;
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        SET LOCAL synchronous_commit = off;  -- nothing is settled here; a job is leased again if a crash loses its lease
    END IF;
    LOCK TABLE gate IN ROW SHARE MODE;

    SELECT w.host || ':' || w.pid, EXISTS (SELECT FROM holds) INTO v_leased_by, v_holds FROM workers w WHERE w.id = p_worker;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF v_holds THEN
        IF EXISTS (SELECT FROM covering_holds_v1(p_worker)) THEN
            IF p_wakeable IS NOT NULL THEN
                PERFORM pg_advisory_unlock_all();
            END IF;
            RETURN;
        END IF;
    END IF;
    -- The look below takes this lock, too. It is taken before v_now, so that the wait does not count as a cost of the look. Jobs
    -- that become due during the wait are found, too. It is not taken earlier, so that a held worker waits for nobody. The
    -- operator who drained the fleet may be at work on the table.
    LOCK TABLE jobs IN ROW SHARE MODE;
    IF v_holds THEN
        IF EXISTS (SELECT FROM ramps) THEN  -- else this call would cost each lease beside a pause 25 microseconds
            SELECT array_agg(r.kind) FILTER (WHERE r.room = 0), array_agg(r.kind) FILTER (WHERE r.room IS DISTINCT FROM 0),
                   array_agg(r.room) FILTER (WHERE r.room IS DISTINCT FROM 0), min(r.again)
              INTO v_shut, v_open, v_rooms, v_again FROM ramp_rooms_v1(p_worker, p_kinds) r;
        END IF;
        -- Afterwards: a pause that was set meanwhile counts. A pause whose ramp has room cannot change meanwhile.
        v_held := held_kinds_v1(true);
        IF v_open IS NOT NULL THEN
            v_held := ARRAY(SELECT h.kind FROM unnest(v_held) AS h (kind) WHERE h.kind <> ALL (v_open));
        END IF;
    END IF;
    v_now := clock_timestamp();

    <<looks>>
    FOR v_range IN
        SELECT n.kind, n.high, n.most, n.at, first.priority, first.run_at,
               CASE WHEN n.low = n.high THEN n.since ELSE '-infinity' END AS since, n.after,
               v_now + make_interval(secs => n.seconds) AS expires
          FROM (SELECT r.kind, r.low, r.high, to_timestamp(r.since) AS since, r.after, r.seconds, r.most, r.at
                  FROM unnest(p_kinds, p_low, p_high, p_since, p_after, p_seconds, p_most) WITH ORDINALITY
                       AS r (kind, low, high, since, after, seconds, most, at)
                 -- NOT IN compares by hash: a hold of each of 20,000 kinds costs milliseconds.
                 WHERE NOT v_holds OR r.kind NOT IN (SELECT unnest(v_held))) n,
               LATERAL (SELECT j.priority, j.run_at FROM jobs j
                         WHERE j.state = 'queued' AND j.kind = n.kind
                           AND (j.priority, j.run_at, j.id) > (n.low, n.since, n.after)
                           -- In a range of several priorities: its first job, due or not. From there the loop goes one by one.
                           AND (j.priority, j.run_at) <= (n.high, CASE WHEN n.low = n.high THEN v_now ELSE 'infinity' END)
                         ORDER BY j.priority, j.run_at, j.id LIMIT 1) first
         ORDER BY n.at
    LOOP
        v_at := array_position(v_open, v_range.kind);
        CONTINUE WHEN v_rooms[v_at] = 0;
        v_priority := v_range.priority;
        v_run_at := v_range.run_at;
        LOOP  -- over the priorities of the range; most ranges have one
            IF v_run_at <= v_now THEN
                v_visited := v_range.at - 1;
                v_most := floor(v_range.most * v_share + 0.001);  -- the share is a sum of fractions, so it is not exact
                EXIT looks WHEN v_most < 1;
                SELECT array_agg(c.id), array_agg(c.alone) INTO v_found, v_alone
                  FROM (SELECT j.id, j.alone OR j.crashes > 0 AS alone FROM jobs j
                         WHERE j.state = 'queued' AND j.kind = v_range.kind AND j.priority = v_priority
                           AND (j.run_at, j.id) > (v_range.since, v_range.after) AND j.run_at <= v_now
                           AND j.id <> ALL (p_skip)
                         ORDER BY j.run_at, j.id
                         LIMIT least(v_most, v_rooms[v_at])
                           FOR UPDATE SKIP LOCKED) c;
                v_full := cardinality(v_alone) = v_most;
                IF v_alone[1] THEN
                    -- This job crashed before, or was at hand when its worker died. It is leased alone: if it kills its
                    -- worker again, no other job is affected.
                    EXIT looks WHEN v_ids <> '{}';
                    v_found := v_found[1:1];
                    v_full := true;
                ELSIF true = ANY (v_alone) THEN
                    v_found := ARRAY(SELECT f.id FROM unnest(v_found, v_alone) f (id, alone) WHERE NOT f.alone);
                END IF;
                v_ids := v_ids || v_found;
                v_ranges := v_ranges || array_fill(v_range.at::integer, ARRAY[coalesce(cardinality(v_found), 0)]);
                v_expiries := v_expiries || array_fill(v_range.expires, ARRAY[coalesce(cardinality(v_found), 0)]);
                v_share := v_share - coalesce(cardinality(v_found), 0)::double precision / v_range.most;
                EXIT looks WHEN v_full;
                v_visited := cardinality(p_kinds);
                IF v_rooms[v_at] IS NOT NULL THEN
                    v_rooms[v_at] := v_rooms[v_at] - coalesce(cardinality(v_alone), 0);
                    IF v_rooms[v_at] = 0 THEN
                        v_shut := v_shut || v_range.kind;  -- the other kinds fill the rest of the window
                        EXIT;
                    END IF;
                END IF;
            ELSE
                v_found := NULL;
            END IF;
            EXIT WHEN v_priority = v_range.high;
            v_in_vain := v_in_vain + (v_found IS NULL)::integer;
            IF v_found IS NULL AND v_in_vain >= 200 THEN
                v_walked := v_walked || ARRAY[[v_range.at::integer, v_priority]];
                EXIT;
            END IF;
            SELECT j.priority, j.run_at INTO v_priority, v_run_at FROM jobs j
             WHERE j.state = 'queued' AND j.kind = v_range.kind AND j.priority > v_priority AND j.priority <= v_range.high
             ORDER BY j.priority, j.run_at, j.id LIMIT 1;
            EXIT WHEN NOT FOUND;
        END LOOP;
    END LOOP;

    v_took := date_part('epoch', clock_timestamp() - v_now) * 1000000;
    IF p_careful AND v_ids <> '{}' THEN
        v_why := lease_refused_v1(v_ids[1], p_worker, v_leased_by, p_token, v_expiries[1]);
        IF v_why IS NOT NULL THEN
            v_refused := json_build_object('range', v_ranges[1], 'id', v_ids[1], 'why', v_why);
            v_ids := '{}';
        END IF;
    END IF;

    IF v_ids = '{}' AND p_wakeable THEN
        -- Each empty turn takes the lock once more; unlock_all gives all of them back at once. It never waits for the lock. An
        -- enqueue holds it alone for an instant (jobs_enqueued_v1), and may be stopped in that instant; a stranger may keep
        -- it. A worker must go on in both cases. A worker without the lock is deaf: once the lock is free, no enqueue wakes it.
        IF NOT pg_try_advisory_lock_shared(7304, schema_key_v1()) THEN
            PERFORM pg_sleep(0.002);
            v_deaf := NOT pg_try_advisory_lock_shared(7304, schema_key_v1());
        END IF;
        v_deaf := v_deaf OR NOT wakes_come_v1();
    ELSIF p_wakeable IS NOT NULL THEN
        PERFORM pg_advisory_unlock_all();
    END IF;

    content := json_build_object(
        'now_us', (date_part('epoch', v_now) * 1000000)::bigint,
        'took_us', least(greatest(v_took, 0), 5000000)::integer,  -- the clock may have been set meanwhile
        'visited', v_visited, 'deaf', v_deaf, 'walked', v_walked, 'refused', v_refused,
        'shut', v_shut, 'again', v_again);
    RETURN NEXT;
    IF v_ids <> '{}' THEN
        IF v_open IS NOT NULL THEN
            PERFORM ramp_taken_v1(ARRAY(SELECT p_kinds[r] FROM unnest(v_ranges) r WHERE p_kinds[r] = ANY (v_open)));
        END IF;
        RETURN QUERY
        WITH leased AS (
            UPDATE jobs j
               SET state = 'processing', leased_by = v_leased_by, leased_at = v_now, worker_id = p_worker,
                   lease_token = p_token, lease_expires_at = t.expires,
                   attempts = least(j.attempts, 2147483646) + 1  -- an odd row must not overflow here
              FROM unnest(v_ids, v_expiries, v_ranges) t (id, expires, "range")
             WHERE j.id = t.id
            RETURNING j.id, t."range",
                      -- A payload that is so small in the table, and not compressed, has a short text. The exception is a
                      -- number with an exponent (1e100000 takes 10 bytes). At most 16 MB of text are made of a row with
                      -- such numbers, and left out below.
                      CASE WHEN pg_column_size(j.payload) <= 2048 AND pg_column_compression(j.payload) IS NULL
                                AND NOT p_careful THEN j.payload END AS payload,
                      j.attempts, j.max_attempts,
                      CASE WHEN j.alone THEN greatest(j.crashes, 1) ELSE j.crashes END AS crashes,
                      j.priority, date_part('epoch', j.run_at) AS run_at
        ), written AS (
            SELECT l.*, CASE WHEN sum(pg_column_size(l.payload)) OVER (ROWS UNBOUNDED PRECEDING) <= 32768
                             THEN l.payload::text END AS written
              FROM leased l
        )
        SELECT id, "range", CASE WHEN octet_length(written) <= 2 * pg_column_size(payload) THEN written END,
               attempts, max_attempts, crashes, priority, run_at
          FROM written;
    END IF;
END $$;
