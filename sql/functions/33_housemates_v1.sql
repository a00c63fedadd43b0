-- The other workers of a machine: the candidates for a proof of death by a worker that starts there.
CREATE OR REPLACE FUNCTION housemates_v1(p_worker uuid, p_machine_id text) RETURNS SETOF workers
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$ SELECT * FROM workers WHERE machine_id = p_machine_id AND id <> p_worker $$;
