-- Ends the drains that named a worker which is gone. With the rights of the tables' owner: a worker may end no other hold.
CREATE OR REPLACE FUNCTION forget_drains_v1() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
    DELETE FROM :"schema".holds h
     WHERE h.scope = 'worker' AND NOT EXISTS (SELECT FROM :"schema".workers w WHERE w.id::text = h.target)
$$;

REVOKE EXECUTE ON FUNCTION forget_drains_v1() FROM PUBLIC;
