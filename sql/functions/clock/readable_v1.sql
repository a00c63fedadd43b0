-- Returns a time that every client can read.
-- A time outside of the years 1 to 9999 becomes the first or the last moment of those years. ISO 8601 and Python know only
-- these years. PostgreSQL also knows earlier and later times, and infinity. Null stays null.
-- Every function that puts a time of a table into JSON calls this one. Rows that Python reads go through
-- connection.TimeLoader, which does the same.
CREATE OR REPLACE FUNCTION readable_v1(p_time timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN CASE WHEN p_time < '0001-01-01 00:00:00+00' THEN '0001-01-01 00:00:00+00'
                WHEN p_time > '9999-12-31 23:59:59.999999+00' THEN '9999-12-31 23:59:59.999999+00'
                ELSE p_time END;
END $$;
