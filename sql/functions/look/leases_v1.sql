-- Lists who leases which job since when, as one JSON object for each lease.
-- p_scope and p_target are those of in_scope_v1. A worker leases several jobs at once and runs one at a time. So:
--   runs     true: its owner runs it, by the owner's last beat. False: its owner runs another job.
--            Null: no beat has named what the owner runs. At most one of the owner's jobs runs.
--   started  the moment at which the owner began to run the job, by its last beat; null if no beat has said so yet. A job
--            that runs for less than about a second rarely has one.
CREATE OR REPLACE FUNCTION leases_v1(p_scope text DEFAULT 'fleet', p_target text DEFAULT '') RETURNS SETOF jsonb
LANGUAGE sql VOLATILE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
    SELECT jsonb_build_object(
               'id', j.id, 'kind', j.kind, 'leased_by', j.leased_by, 'leased_at', readable_v1(j.leased_at),
               'runs', r.job_id = j.id,
               'started', CASE WHEN b.job_id = j.id AND seconds_since_v1(b.job_since) <= seconds_since_v1(j.leased_at) + 60
                               THEN readable_v1(b.job_since) END,
               'lease_expires_at', readable_v1(j.lease_expires_at), 'attempts', j.attempts, 'unit', w.unit,
               'worker', j.worker_id, 'beat_at', readable_v1(b.beat_at), 'seconds', seconds_since_v1(j.leased_at))
      FROM in_scope_v1(p_scope, p_target) j LEFT JOIN workers w ON w.id = j.worker_id
           LEFT JOIN beats b ON b.worker_id = w.id
           LEFT JOIN running_v1() r ON r.worker_id = j.worker_id
     ORDER BY j.leased_at, j.id
$$;
