-- A time as every reader of ours can hold it: ISO 8601 and Python know the years 1 to 9999, PostgreSQL knows the time
-- before and after them, and infinity. What lies outside is shown as the first or the last moment that they know. Whoever
-- puts a time of a table into JSON calls this; what Python reads as a row passes connection.TimeLoader, which does the same.
CREATE OR REPLACE FUNCTION readable_v1(p_time timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN CASE WHEN p_time < '0001-01-01 00:00:00+00' THEN '0001-01-01 00:00:00+00'
                WHEN p_time > '9999-12-31 23:59:59.999999+00' THEN '9999-12-31 23:59:59.999999+00'
                ELSE p_time END;
END $$;
