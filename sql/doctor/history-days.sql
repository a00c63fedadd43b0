-- The tables of the history. Without one for tomorrow no job can be settled after midnight (UTC). Workers make them 14 days
-- ahead. One that should be gone keeps disk: the timer drops them each day.
WITH days AS (
    SELECT c.parent, c.days, r.oid, r.relowner FROM (VALUES ('job_history_7d', 7), ('job_history_90d', 90)) AS c (parent, days)
      JOIN pg_namespace n ON n.nspname = :'schema'
      JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = c.parent::name
), made AS (
    SELECT d.parent, d.days, d.oid, t.relname, i.inhrelid IS NOT NULL AS attached,
           to_date(right(t.relname::text, 8), 'YYYYMMDD') AS day
      FROM days d JOIN pg_class r ON r.oid = d.oid
           JOIN pg_class t ON t.relnamespace = r.relnamespace AND t.relowner = d.relowner
                          AND t.relname::text ~ ('^' || d.parent || '_[0-9]{8}$')
           LEFT JOIN pg_inherits i ON i.inhrelid = t.oid AND i.inhparent = d.oid
), now AS (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS today),
ready AS (
    -- Of each class, the first day from today on without a table.
    SELECT min(g.n) - 1 AS days
      FROM days d, now, generate_series(0, 400) AS g (n)
     WHERE NOT EXISTS (SELECT FROM made m WHERE m.oid = d.oid AND m.attached AND m.day = now.today + g.n)
), late AS (
    SELECT count(*) AS days, min(m.day) AS first FROM made m, now WHERE m.day < now.today - 2 - m.days
)
SELECT CASE WHEN r.days < 1 THEN 'critical' ELSE 'warning' END AS severity,
       CASE WHEN r.days < 0 THEN 'the history has no table for today: no job can be settled'
            ELSE format('the history has tables for %s day(s) after today: then no job can be settled', r.days) END AS said,
       jsonb_build_object('days_ready', r.days) AS evidence, NULL::timestamptz AS since
  FROM ready r WHERE r.days < 3
UNION ALL
SELECT 'warning', format('%s day(s) of the history are over and were not dropped', l.days),
       jsonb_build_object('days', l.days, 'oldest', l.first), NULL
  FROM late l WHERE l.days > 0
