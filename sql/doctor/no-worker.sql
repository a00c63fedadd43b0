-- Jobs wait and no worker lives. While the fleet is drained, somebody is at work.
SELECT 'critical' AS severity, 'jobs are queued, and no worker lives' AS said,
       jsonb_build_object('silent_workers', (SELECT count(*) FROM :"schema".workers)) AS evidence,
       (SELECT max(b.beat_at) FROM :"schema".beats b) AS since
 WHERE EXISTS (SELECT FROM :"schema".jobs j WHERE j.state = 'queued')
   AND NOT EXISTS (SELECT FROM :"schema".beats b
                    WHERE b.beat_at > clock_timestamp() - interval '30 s' AND b.beat_at < clock_timestamp() + interval '30 s')
   AND NOT EXISTS (SELECT FROM :"schema".standing_holds h WHERE h.scope = 'fleet')
