-- Workers that give no sign of life and have leases. Their jobs stand still until a sweep takes them, or the leases expire.
-- One finding for each host. If another worker of the host lives, the host is not dead.
SELECT 'warning' AS severity,
       format('%s silent worker(s) of host %s have %s job(s)', count(*), w.host, sum(l.leases)) AS said,
       jsonb_build_object('host', w.host, 'workers', (array_agg(w.host || ':' || w.pid ORDER BY w.pid))[:10],
                          'leases', sum(l.leases)) AS evidence,
       max(b.beat_at) AS since,
       CASE WHEN NOT EXISTS (SELECT FROM :"schema".workers o JOIN :"schema".beats x ON x.worker_id = o.id
                              WHERE o.host = w.host AND x.beat_at > clock_timestamp() - interval '30 s'
                                AND x.beat_at < clock_timestamp() + interval '30 s') THEN 'dead-host' ELSE 'sweep' END AS page
  FROM :"schema".workers w LEFT JOIN :"schema".beats b ON b.worker_id = w.id
       JOIN (SELECT j.worker_id, count(*) AS leases FROM :"schema".jobs j WHERE j.state = 'processing' GROUP BY 1) l
         ON l.worker_id = w.id
 WHERE b.beat_at IS NULL OR b.beat_at < clock_timestamp() - interval '30 s' OR b.beat_at > clock_timestamp() + interval '30 s'
 GROUP BY w.host
 ORDER BY sum(l.leases) DESC
 LIMIT 50
