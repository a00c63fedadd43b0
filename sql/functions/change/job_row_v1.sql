-- Returns the row j of jobs as SQL, with p_payload, an expression, in place of its payload. With NULL nobody reads a payload.
-- The name j alone would read all of them from disk.
CREATE OR REPLACE FUNCTION job_row_v1(p_payload text DEFAULT 'NULL') RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_catalog.format('ROW(%s)::%I.jobs', pg_catalog.string_agg(
               CASE WHEN a.attname = 'payload' THEN p_payload ELSE pg_catalog.format('j.%I', a.attname) END, ', ' ORDER BY a.attnum), :'schema')
      FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = pg_catalog.format('%I.jobs', :'schema')::regclass::oid AND a.attnum > 0 AND NOT a.attisdropped
$$;
