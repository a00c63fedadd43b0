-- Tells whether a worker lives, by the time of its last beat: true if that is less than 30 s away.
-- A beat 30 s or more in the future counts as little as an old one. The database's clock was set back since, and a worker
-- that lives beats again within seconds.
CREATE OR REPLACE FUNCTION lives_v1(p_beat_at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce(abs(:"schema".seconds_since_v1(p_beat_at)) < 30, false);
END $$;
