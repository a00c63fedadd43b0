-- Lists the retention classes that keep history: the table of each class, and how many days it keeps.
-- A new class also needs a partition of job_history with the name given here.
CREATE OR REPLACE FUNCTION history_classes_v1() RETURNS TABLE (parent text, days integer)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN QUERY VALUES ('job_history_7d', 7), ('job_history_90d', 90); END $$;
