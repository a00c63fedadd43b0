-- The NOTIFY channel of this schema. A notification means "look at the queue"; it carries nothing.
CREATE OR REPLACE FUNCTION channel_v1() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$ BEGIN RETURN 'shithubd:' || current_schema()::text; END $$;
