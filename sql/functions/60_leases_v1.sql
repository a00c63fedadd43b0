-- Who leases what, since when. `started` is when the owner's last beat says that it began to run the job, null if no
-- beat said so yet: a job that runs for less than about a second is rarely seen to have started.
CREATE OR REPLACE FUNCTION leases_v1() RETURNS TABLE (
    id bigint, kind text, leased_by text, leased_at timestamptz, started timestamptz, lease_expires_at timestamptz,
    attempts integer, unit text, beat_at timestamptz)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT j.id, j.kind, j.leased_by, j.leased_at, CASE WHEN w.job_id = j.id THEN w.job_since END, j.lease_expires_at,
           j.attempts, w.unit, w.beat_at
      FROM jobs j LEFT JOIN workers w ON w.id = j.worker_id
     WHERE j.state = 'processing'
     ORDER BY j.leased_at, j.id
$$;
