-- How many seconds ago a time was, by the database's clock; below 0 if it lies ahead; null if it is infinite. It can't
-- fail: a difference of timestamps can (of infinite ones before PostgreSQL 17), and so can a timestamp with an interval
-- added, near the ends of what PostgreSQL can store. Whoever asks for the age of a time of a table calls this.
CREATE OR REPLACE FUNCTION seconds_since_v1(p_time timestamptz) RETURNS double precision
LANGUAGE plpgsql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN isfinite(p_time) THEN date_part('epoch', clock_timestamp()) - date_part('epoch', p_time) END;
END $$;
