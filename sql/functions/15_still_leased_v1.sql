-- After a COMMIT whose answer was lost: does this lease still stand (the settle did not happen), or not?
CREATE OR REPLACE FUNCTION still_leased_v1(p_id bigint, p_token uuid) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path FROM CURRENT
AS $$ SELECT EXISTS (SELECT FROM jobs WHERE id = p_id AND lease_token = p_token AND state = 'processing') $$;
