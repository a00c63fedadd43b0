-- Returns the name of this schema's NOTIFY channel.
-- A notification means "look at the queue". Its payload is empty, or 'anew' for a look from the start (wake_v1). Every login
-- can send one, so only the moment of a look depends on it.
CREATE OR REPLACE FUNCTION channel_v1() RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN 'shithubd:' || :'schema'; END $$;
