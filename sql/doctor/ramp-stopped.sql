-- Ramps that stopped on their own, because too many runs failed. Nothing of the kind runs until somebody decides.
SELECT 'critical' AS severity, format('the ramp of kind %s stopped on its own: %s', r.kind, left(r.stopped, 200)) AS said,
       jsonb_build_object('kind', r.kind, 'ok', r.ok, 'bad', r.bad, 'stop_at', r.stop_at) AS evidence,
       r.stopped_at AS since
  FROM :"schema".ramps r JOIN :"schema".standing_holds h ON h.id = r.hold_id
 WHERE r.stopped_at IS NOT NULL
 ORDER BY r.stopped_at
 LIMIT 50
