-- Returns how many seconds ago a time was, by the database's clock.
-- The result is negative for a time in the future, and null for null or an infinite time.
-- This function never fails. A difference of two timestamps can fail (of infinite ones, before PostgreSQL 17). A timestamp
-- plus an interval can fail near the limits of what PostgreSQL stores. So every function that needs the age of a stored
-- time calls this one.
CREATE OR REPLACE FUNCTION seconds_since_v1(p_time timestamptz) RETURNS double precision
LANGUAGE plpgsql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN isfinite(p_time) THEN date_part('epoch', clock_timestamp()) - date_part('epoch', p_time) END;
END $$;
