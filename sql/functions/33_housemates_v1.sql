-- Who the other workers of a machine are: the candidates for a proof of death by a worker that starts there.
CREATE OR REPLACE FUNCTION housemates_v1(p_worker uuid, p_machine_id text)
RETURNS TABLE (id uuid, host text, pid integer, machine_id text, boot_id text, pid_namespace bigint,
               start_ticks bigint, unit text, invocation_id text)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT id, host, pid, machine_id, boot_id, pid_namespace, start_ticks, unit, invocation_id
      FROM workers WHERE machine_id = p_machine_id AND id <> p_worker
$$;
