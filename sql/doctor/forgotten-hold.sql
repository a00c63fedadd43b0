-- Holds that somebody forgot, as FleetHoldTooLong, HoldTooLong and KindPausedTooLong define them in runbooks/alerts.rules.yml.
-- A drain with an end does not count: nobody has to remember it. A pause counts from when it began, or from when its ramp
-- began. A ramp that goes on in steps ends on its own.
SELECT 'warning' AS severity,
       CASE f.scope WHEN 'fleet' THEN 'the whole fleet is drained'
                    WHEN 'kind' THEN format('kind %s is paused', f.target)
                    ELSE format('%s %s is drained', f.scope, f.target) END
       || format(' since %s h ago', round((date_part('epoch', clock_timestamp() - f.since) / 3600)::numeric)) AS said,
       jsonb_build_object('scope', f.scope, 'target', f.target, 'actor', f.actor, 'reason', left(f.reason, 200)) AS evidence,
       f.since,
       CASE f.scope WHEN 'fleet' THEN 'FleetHoldTooLong' WHEN 'kind' THEN 'KindPausedTooLong' ELSE 'HoldTooLong' END AS page
  FROM (SELECT h.scope, h.target, h.actor, h.reason, greatest(coalesce(r.began, h.created), '0001-01-01') AS since
          FROM :"schema".standing_holds h LEFT JOIN :"schema".ramps r ON r.hold_id = h.id
         WHERE CASE WHEN h.scope <> 'kind' THEN h.until IS NULL
                    ELSE r.hold_id IS NULL OR r.steps IS NULL OR r.passed_at IS NULL OR r.stopped_at IS NOT NULL
                         OR r.over_at <= clock_timestamp() END) f
 WHERE f.since < clock_timestamp() - CASE f.scope WHEN 'fleet' THEN interval '1 hour' WHEN 'kind' THEN interval '3 hours'
                                                  ELSE interval '24 hours' END
 ORDER BY f.since
 LIMIT 50
