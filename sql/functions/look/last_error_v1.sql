-- Returns the first line of why a job failed last, at most 200 characters; null if it has not failed.
-- Null, too, for a login that may not read errors (shithub_metrics). Called by named_kinds_v1.
CREATE OR REPLACE FUNCTION last_error_v1(p_id bigint) RETURNS text
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    IF NOT has_column_privilege('jobs', 'last_error', 'SELECT') THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT left(rtrim(split_part(left(last_error, 10000), E'\n', 1), E'\r'), 200) FROM jobs WHERE id = p_id);
END $$;
