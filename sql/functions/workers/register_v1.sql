-- Writes the rows of a worker: who it is, and its first beat. p_gives_up: after how many seconds without a sign of life it
-- gives up its run (sweep_silent_v1); null: never.
-- Rows that stand already stay unchanged. Called by a worker at its start, and by its control thread when it finds one of the
-- rows gone.
CREATE OR REPLACE FUNCTION register_v1(
    p_id uuid, p_host text, p_pid integer, p_machine_id text, p_boot_id text, p_pid_namespace bigint,
    p_start_ticks bigint, p_unit text, p_invocation_id text, p_version text, p_schema_version integer, p_kinds text[],
    p_gives_up double precision DEFAULT NULL
) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    INSERT INTO workers (id, host, pid, machine_id, boot_id, pid_namespace, start_ticks, unit, invocation_id,
                         version, schema_version, kinds, gives_up)
    VALUES (p_id, p_host, p_pid, p_machine_id, p_boot_id, p_pid_namespace, p_start_ticks, p_unit, p_invocation_id,
            p_version, p_schema_version, p_kinds, p_gives_up)
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO beats (worker_id) VALUES (p_id) ON CONFLICT (worker_id) DO NOTHING
$$;
