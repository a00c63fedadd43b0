-- The number that stands for this schema in advisory locks, so that two schemas in one database don't share them.
-- In plpgsql, which keeps its plans; so are all functions of the hot path (before PostgreSQL 18, one in SQL that can't be
-- inlined is planned anew in every query). The first key of a lock says what it is for: 7301 the gate (see lease_v1), 7302 housekeeping,
-- 7303 migrations, 7304 a worker at rest (see jobs_enqueued_v1).
CREATE OR REPLACE FUNCTION schema_key_v1() RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$ BEGIN RETURN hashtext(current_schema()::text); END $$;
