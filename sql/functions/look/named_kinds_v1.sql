-- Lists the kinds as kinds_v1 does, as one JSON object each, but names only the largest and the most urgent ones.
-- p_most is how many kinds it may name at most; null means all. If there are more, those are named that come first in some
-- figure: jobs that wait, the wait of the oldest, jobs that no worker handles, leases, failed jobs, retries. The last object
-- has null as its kind, and the sums of all others; kinds says how many they are. p_kind limits it to one kind.
-- p_counts is an older result of count_jobs_v1, as for kinds_v1. p_also are further kinds to be named.
-- A kind with retries also has next_retry_seconds, and in last_error the first line of why the next of them failed last.
-- Called by status_v1, by stats_v1, and by `status` with a kind or --all-kinds.
CREATE OR REPLACE FUNCTION named_kinds_v1(p_most integer DEFAULT 50, p_kind text DEFAULT NULL, p_counts jsonb DEFAULT NULL,
                                          p_also text[] DEFAULT '{}') RETURNS SETOF jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET jit = off
AS $$
    WITH k AS MATERIALIZED (
        SELECT k.*, k.kind IS NOT NULL AND (p_most IS NULL OR p_most >= count(*) OVER () OR k.urgency <= p_most / 6
                                             OR k.kind = ANY (p_also)) IS TRUE AS named
          FROM kinds_v1(p_counts, p_kind) k
    ), told AS (
        SELECT k.kind, to_jsonb(k) - '{named,next_retry_id}'::text[] || jsonb_build_object(
                   'next_retry', readable_v1(k.next_retry), 'next_retry_seconds', -seconds_since_v1(k.next_retry),
                   'last_error', CASE WHEN k.next_retry_id IS NOT NULL THEN last_error_v1(k.next_retry_id) END) AS object
          FROM k WHERE k.named
        UNION ALL
        SELECT NULL, jsonb_build_object(
                   'kind', NULL, 'kinds', sum(k.kinds), 'queued', sum(k.queued), 'processing', sum(k.processing),
                   'paused', sum(k.paused), 'failed', sum(k.failed), 'running', sum(k.running), 'runnable', sum(k.runnable),
                   'held', sum(k.held), 'expired', sum(k.expired), 'retries', sum(k.retries),
                   'workers', NULL, 'oldest_seconds', max(k.oldest_seconds), 'next_retry', readable_v1(min(k.next_retry)),
                   'next_retry_seconds', -seconds_since_v1(min(k.next_retry)), 'last_error', NULL,
                   'capped', (SELECT coalesce(jsonb_agg(DISTINCT f.figure), '[]')
                                FROM k, unnest(k.capped) AS f (figure) WHERE NOT k.named))
          FROM k WHERE NOT k.named HAVING count(*) > 0
    )
    SELECT t.object FROM told t ORDER BY t.kind NULLS LAST
$$;
