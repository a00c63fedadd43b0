-- The classes of the history that keep anything: the table of each, and for how many days. Another class needs a partition of
-- job_history by the same name, too.
CREATE OR REPLACE FUNCTION history_classes_v1() RETURNS TABLE (parent text, days integer)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN QUERY VALUES ('job_history_7d', 7), ('job_history_90d', 90); END $$;
