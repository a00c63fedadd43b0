-- The NOTIFY channel of this schema. A notification means "look at the queue"; it carries nothing.
CREATE OR REPLACE FUNCTION channel_v1() RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN 'shithubd:' || :'schema'; END $$;
