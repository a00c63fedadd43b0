-- Adds two counts; a sum that would be too large for bigint stays at its largest value.
-- So no count fails because of another one. Called by count_ended_v1.
CREATE OR REPLACE FUNCTION added_v1(p_sum bigint, p_more bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN least(p_sum, 9223372036854775807 - p_more) + p_more; END $$;
