-- A worker leaves: its row goes, and the drain that named it. Called last of all, when it holds no lease.
CREATE OR REPLACE FUNCTION unregister_v1(p_worker uuid) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    DELETE FROM holds WHERE scope = 'worker' AND target = p_worker::text;
    DELETE FROM workers WHERE id = p_worker;
$$;
