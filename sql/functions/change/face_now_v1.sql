-- Returns the face (job_face_v1) of the row j of jobs as SQL, to be compared with the kept face p_kept, an expression.
-- It has the hash of the payload only if the kept face has one.
CREATE OR REPLACE FUNCTION face_now_v1(p_kept text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_catalog.format('%I.job_face_v1(%s)', :'schema', :"schema".job_row_v1(
               pg_catalog.format('CASE WHEN %s ? ''payload'' THEN j.payload END', p_kept)))
$$;
