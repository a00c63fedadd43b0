-- Is this kind in any job, history row, hold or worker? A pause of any other kind is probably a slip of the pen.
CREATE OR REPLACE FUNCTION known_kind_v1(p_kind text) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT EXISTS (SELECT FROM workers WHERE p_kind = ANY (kinds))
        OR EXISTS (SELECT FROM holds WHERE scope = 'kind' AND target = p_kind)
        OR EXISTS (SELECT FROM jobs WHERE kind = p_kind)
        OR EXISTS (SELECT FROM job_history WHERE kind = p_kind)
$$;
