-- Returns the number of this schema for our advisory lock 7304, so that two schemas in one database do not share the lock.
-- The lock stands for a worker at rest: see jobs_enqueued_v1, also on strangers, who can take it if they may connect.
-- This function is in plpgsql, which keeps its plans, as all functions of the hot path. Before PostgreSQL 18, an SQL function
-- that cannot be inlined is planned anew in every query.
--
-- For this file and others:
--   - migrate puts the schema's name in place of :'schema' and :"schema", as psql does with a variable.
--   - A function that is SECURITY DEFINER, or is called by one, uses that name for our objects and searches in pg_catalog
--     first. Our schema comes second in its path, and only if it writes to a table, for a trigger of the application there.
--   - If somebody made a function or an operator in our schema, PostgreSQL prefers it to one of pg_catalog whose arguments fit
--     less exactly. So in these functions every argument fits exactly, or the name is qualified (see
--     tests/postgres/test_definers.py).
CREATE OR REPLACE FUNCTION schema_key_v1() RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN hashtext(:'schema'); END $$;
