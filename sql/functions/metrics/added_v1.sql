-- A sum of counts; one at its end stays there: nobody's count may fail for it. Called by count_ended_v1.
CREATE OR REPLACE FUNCTION added_v1(p_sum bigint, p_more bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN least(p_sum, 9223372036854775807 - p_more) + p_more; END $$;
