-- Records in the history that a worker lost its lease, so that a second run of the job is explained.
-- It changes no job. With p_retention 'none' it records nothing. The worker gives its own name (p_leased_by): a crash of the
-- database that forgot the lease may have forgotten the worker's row, too.
-- Called by either thread of a worker after a settle was refused.
CREATE OR REPLACE FUNCTION lost_v1(
    p_leased_by text, p_id bigint, p_kind text, p_attempts integer, p_error text, p_retention text
) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    SELECT record_v1(ARRAY[ended_v1(
               jsonb_populate_record(NULL::jobs, jsonb_build_object('id', p_id, 'kind', p_kind, 'attempts', p_attempts,
                                                                    'leased_by', p_leased_by)),
               'lease_lost', p_error, p_retention, NULL)])
     WHERE p_retention <> 'none'
$$;
