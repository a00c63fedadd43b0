-- Returns the time of the database's clock.
-- Leases and schedules use no other clock. Each call reads the clock anew, also within one transaction. Called by the
-- control thread, and by the commands that need the time.
CREATE OR REPLACE FUNCTION statement_time_v1() RETURNS timestamptz
LANGUAGE sql VOLATILE SET search_path FROM CURRENT
AS $$ SELECT clock_timestamp() $$;
