-- The number that stands for this schema in advisory locks, so that two schemas in one database don't share them.
-- The first key of a lock says what it is for: 7301 the gate (see lease_v1), 7302 housekeeping, 7303 migrations.
CREATE OR REPLACE FUNCTION schema_key_v1() RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$ SELECT hashtext(current_schema()::text) $$;
