-- Does a worker live, as far as its last beat tells? One in the future tells no more than an old one: the database's clock
-- was set back since, and a worker that lives beats anew within seconds.
CREATE OR REPLACE FUNCTION lives_v1(p_beat_at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce(abs(:"schema".seconds_since_v1(p_beat_at)) < 30, false);
END $$;
