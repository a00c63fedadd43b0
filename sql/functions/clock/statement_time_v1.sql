-- The database's clock, the only one that schedules and leases know.
CREATE OR REPLACE FUNCTION statement_time_v1() RETURNS timestamptz
LANGUAGE sql VOLATILE SET search_path FROM CURRENT
AS $$ SELECT clock_timestamp() $$;
