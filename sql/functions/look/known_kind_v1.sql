-- Tells whether any job, hold or worker, or the history, has this kind.
-- A pause of an unknown kind is probably a typing error. Each question probes an index or reads a few rows (workers,
-- leases). The history has no index on kind: the function reads at most 100,000 of its rows, so that a pause does not wait.
-- Called by pause-kind.
CREATE OR REPLACE FUNCTION known_kind_v1(p_kind text) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
    SELECT EXISTS (SELECT FROM workers WHERE p_kind = ANY (kinds))
        OR EXISTS (SELECT FROM holds WHERE scope = 'kind' AND target = p_kind)
        OR EXISTS (SELECT FROM jobs WHERE state = 'queued' AND kind = p_kind)
        OR EXISTS (SELECT FROM jobs WHERE state = 'paused' AND kind = p_kind)
        OR EXISTS (SELECT FROM jobs WHERE state = 'failed' AND kind = p_kind)
        OR EXISTS (SELECT FROM jobs WHERE state = 'processing' AND kind = p_kind)
        OR EXISTS (SELECT FROM (SELECT kind FROM job_history LIMIT 100000) h WHERE kind = p_kind)
$$;
