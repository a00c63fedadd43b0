-- A worker leaves: its row goes, and the drain that named it. What it might still hold without knowing goes back into the
-- queue; if one can't (locked, or refused by the database), the row stays, by which others know whose it is. Called last of
-- all.
CREATE OR REPLACE FUNCTION unregister_v1(p_worker uuid) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT release_strays_v1(p_worker);
    DELETE FROM holds WHERE scope = 'worker' AND target = p_worker::text;
    DELETE FROM workers w
     WHERE w.id = p_worker AND NOT EXISTS (SELECT FROM jobs j WHERE j.state = 'processing' AND j.worker_id = p_worker);
$$;
