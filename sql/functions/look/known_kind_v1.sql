-- Is this kind in any job, hold or worker, or in the history? A pause of any other kind is probably a slip of the pen. Each
-- question is a probe of an index, or a walk over what is few: workers, leases. The history has no index by kind: of that no
-- more than 100,000 rows are looked at, so that a pause doesn't wait for it. Called by pause-kind.
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
