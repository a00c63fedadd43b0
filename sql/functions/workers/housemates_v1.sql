-- Lists the other workers of a machine, as they registered.
-- A worker that starts there looks for proof that one of them is dead.
CREATE OR REPLACE FUNCTION housemates_v1(p_worker uuid, p_machine_id text)
RETURNS TABLE (id uuid, host text, pid integer, machine_id text, boot_id text, pid_namespace bigint, start_ticks bigint,
               unit text, invocation_id text)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT w.id, w.host, w.pid, w.machine_id, w.boot_id, w.pid_namespace, w.start_ticks, w.unit, w.invocation_id
      FROM workers w WHERE w.machine_id = p_machine_id AND w.id <> p_worker
$$;
