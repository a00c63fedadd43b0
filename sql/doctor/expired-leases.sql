-- Leases that expired two minutes ago and that no worker took back. Workers look for them every 2 s, between two jobs.
SELECT 'warning' AS severity, format('%s lease(s) have expired, and no worker takes them back', count(*)) AS said,
       jsonb_build_object('jobs', count(*), 'kinds', (array_agg(DISTINCT j.kind))[:10]) AS evidence,
       min(j.lease_expires_at) AS since
  FROM :"schema".jobs j
 WHERE j.state = 'processing'
   AND coalesce(j.lease_expires_at, '-infinity'::timestamptz) < clock_timestamp() - interval '2 minutes'
HAVING count(*) > 0
