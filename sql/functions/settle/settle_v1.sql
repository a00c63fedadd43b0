-- Ends leases, each with its outcome, and writes a history row for each.
-- The arrays run in parallel; an array of one item holds for all ids. Each write is fenced: id, token and the state
-- processing must match, else nothing is written for that job.
-- Returns the ids whose lease was lost: no row if all went well. p_outcomes has one of:
--   ok               the job is done: its row goes
--   retry            back into the queue, due p_delays seconds from now
--   failed, poison   failed
--   released         back into the queue unchanged, or due p_delays seconds from now; the attempt is given back (on run_at
--                    see return_crashed_v1)
-- Raises an error for any other outcome. p_errors goes into the history and, unless null, into last_error. p_retentions is
-- the retention class; 'none' keeps no history.
-- The commit is synchronous in every session: what is settled must survive a crash of the database.
-- Called by the main thread in the same transaction as its next lease. job.transaction() calls it on the handler's own
-- connection (settle_within_v1), and both threads call it for what a turn did not settle (settle_soon_v1).
-- The fields of a lease and of a history row are written here as well as in flip_v1, return_crashed_v1, change_slice_v1
-- and ended_v1. A shared function would be called for each job, and cost each job a microsecond.
CREATE OR REPLACE FUNCTION settle_v1(
    p_ids bigint[], p_tokens uuid[], p_outcomes text[], p_delays double precision[], p_errors text[], p_retentions text[]
) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
-- One plan for all sizes, by the primary key, because the planner's statistics of a queue are never up to date. The state
-- is compared as an expression (state || ''), so that the planner cannot read all leases through jobs_leases instead.
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_count   integer := cardinality(p_ids);
    v_ok      bigint[];
    -- Of each job whose kind is held: the kind, and when it was leased. The table ramps is not asked: each lease changes it, and
    -- beside a held snapshot a settle would walk over all its dead rows.
    v_ended   json;
    v_settled bigint[];
BEGIN
    IF NOT p_outcomes <@ ARRAY['ok', 'retry', 'failed', 'poison', 'released'] THEN
        RAISE EXCEPTION 'a worker can''t settle a job as one of these: %', p_outcomes;
    END IF;
    IF v_count > 1 THEN
        IF cardinality(p_tokens) = 1 THEN p_tokens := array_fill(p_tokens[1], ARRAY[v_count]); END IF;
        IF cardinality(p_outcomes) = 1 THEN p_outcomes := array_fill(p_outcomes[1], ARRAY[v_count]); END IF;
        IF cardinality(p_delays) = 1 THEN p_delays := array_fill(p_delays[1], ARRAY[v_count]); END IF;
        IF cardinality(p_errors) = 1 THEN p_errors := array_fill(p_errors[1], ARRAY[v_count]); END IF;
        IF cardinality(p_retentions) = 1 THEN p_retentions := array_fill(p_retentions[1], ARRAY[v_count]); END IF;
    END IF;
    SET LOCAL synchronous_commit = on;

    IF 'ok' = ANY (p_outcomes) THEN
        WITH gone AS (
            DELETE FROM jobs j
             USING unnest(p_ids, p_tokens, p_outcomes, p_retentions) e (id, token, outcome, retention)
             WHERE j.id = e.id AND j.lease_token = e.token AND j.state || '' = 'processing' AND e.outcome = 'ok'
            RETURNING j.*, e.retention
        ), recorded AS (
            INSERT INTO job_history (id, kind, outcome, attempts, leased_by, leased_at, finished_at, payload, lease_token,
                                     retention)
            SELECT id, kind, 'ok', attempts, leased_by, leased_at, clock_timestamp(), payload, lease_token, retention
              FROM gone WHERE retention <> 'none'
        )
        SELECT array_agg(id), json_agg(json_build_object('kind', kind, 'leased_at', leased_at))
                                  FILTER (WHERE EXISTS (SELECT FROM holds)
                                            AND kind IN (SELECT h.target FROM holds h WHERE h.scope = 'kind'))
          INTO v_ok, v_ended FROM gone;
        IF v_ended IS NOT NULL THEN
            PERFORM ramp_ended_v1(v_ended, true);
        END IF;
    END IF;

    IF 'ok' <> ANY (p_outcomes) THEN
        WITH held AS MATERIALIZED (
            SELECT j.id, j.kind, e.outcome, j.attempts, j.leased_by, j.leased_at, e.error, e.token, e.retention, e.delay
              FROM unnest(p_ids, p_tokens, p_outcomes, p_delays, p_errors, p_retentions)
                   e (id, token, outcome, delay, error, retention),
                   jobs j
             WHERE j.id = e.id AND j.lease_token = e.token AND j.state || '' = 'processing' AND e.outcome <> 'ok'
               FOR UPDATE OF j
        ), kept AS (
            UPDATE jobs j
               SET state = CASE WHEN h.outcome IN ('failed', 'poison') THEN 'failed' ELSE 'queued' END,
                   run_at = CASE WHEN h.outcome = 'retry' OR h.outcome = 'released' AND h.delay > 0
                                 THEN clock_timestamp() + make_interval(secs => h.delay)
                                 WHEN h.outcome = 'released' THEN least(j.run_at, clock_timestamp())
                                 ELSE j.run_at END,
                   attempts = CASE WHEN h.outcome = 'released' THEN greatest(j.attempts, 1) - 1 ELSE j.attempts END,
                   last_error = coalesce(h.error, j.last_error),
                   -- A run that came to its end shows that the job kills no worker. A released job may not have begun, or
                   -- may not have reached the line that kills.
                   alone = j.alone AND h.outcome = 'released',
                   leased_by = NULL, leased_at = NULL, lease_expires_at = NULL, lease_token = NULL, worker_id = NULL
              FROM held h
             WHERE j.id = h.id
        ), recorded AS (
            INSERT INTO job_history (id, kind, outcome, attempts, leased_by, leased_at, finished_at, error, lease_token,
                                     retention)
            SELECT id, kind, outcome, attempts, leased_by, leased_at, clock_timestamp(), error, token, retention
              FROM held WHERE retention <> 'none'
        )
        SELECT array_agg(id), json_agg(json_build_object('kind', kind, 'leased_at', leased_at))
                                  FILTER (WHERE outcome <> 'released' AND EXISTS (SELECT FROM holds)
                                            AND kind IN (SELECT h.target FROM holds h WHERE h.scope = 'kind'))
          INTO v_settled, v_ended FROM held;
        IF v_ended IS NOT NULL THEN
            PERFORM ramp_ended_v1(v_ended, false);
        END IF;
    END IF;

    v_settled := v_settled || v_ok;
    IF cardinality(v_settled) IS DISTINCT FROM v_count THEN
        RETURN QUERY SELECT unnest(p_ids) EXCEPT SELECT unnest(v_settled);
    END IF;
END $$;
