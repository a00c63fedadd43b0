-- Returns why the database would refuse to lease a job, or null if it would not.
-- The cause can be a trigger, a constraint or an index of the application. The function tries the lease and takes it back.
-- It raises a want of memory, disk or connections (class 53), because that is about no single job.
-- Called by lease_v1 with p_careful, in a turn after one that was refused; never on the usual path.
CREATE OR REPLACE FUNCTION lease_refused_v1(p_id bigint, p_worker uuid, p_leased_by text, p_token uuid, p_expires timestamptz)
RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;
    UPDATE jobs
       SET state = 'processing', leased_by = p_leased_by, leased_at = clock_timestamp(), worker_id = p_worker,
           lease_token = p_token, lease_expires_at = p_expires, attempts = least(attempts, 2147483646) + 1
     WHERE id = p_id;
    RAISE EXCEPTION USING ERRCODE = 'SHW00';
EXCEPTION
    WHEN SQLSTATE 'SHW00' THEN
        RETURN NULL;
    WHEN insufficient_resources THEN  -- the whole class 53
        RAISE;
    WHEN OTHERS THEN
        RETURN SQLERRM;
END $$;
