-- The NOTIFY channel of this schema. A notification means "look at the queue". What it carries is empty, or
-- 'anew': look from the start (wake_v1). Whoever may connect can send one, so nothing but the moment of a look depends on it.
CREATE OR REPLACE FUNCTION channel_v1() RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN 'shithubd:' || :'schema'; END $$;
