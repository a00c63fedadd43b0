-- The number that stands for this schema in the one advisory lock of ours, so that two schemas in one database don't share it:
-- 7304, a worker at rest (see jobs_enqueued_v1). Anybody who may connect can take it; see there what comes of that. In plpgsql,
-- which keeps its plans; so are all functions of the hot path (before PostgreSQL 18, one in SQL that can't be inlined is
-- planned anew in every query). About this file and others: migrate puts the schema's name in place of :'schema' and :"schema",
-- as psql does with a variable. A function that is SECURITY DEFINER, or called by one, names what is ours by it, and searches
-- in pg_catalog first: in our schema only behind that, and only if it writes to a table, for a trigger of the application
-- there. A function or an operator that somebody else made in our schema is preferred to one of pg_catalog whose arguments fit
-- less exactly: so there every argument fits exactly, or the name is qualified (see tests/postgres/test_definers.py).
CREATE OR REPLACE FUNCTION schema_key_v1() RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN hashtext(:'schema'); END $$;
