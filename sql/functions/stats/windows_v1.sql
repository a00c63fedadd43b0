-- Lists the windows of time for which there are figures: 5m, 1h and 24h, the shortest first.
-- starts is where a window begins: at the beginning of a minute, of ten minutes or of an hour, because figures are kept in such
-- spans (fold_stats_v1). So the window of 5 minutes has between 5 and 6. seconds is how much of it there are figures for, at
-- least 1: the database keeps figures since its migration (worker_schema). A migration in the future counts as unknown: somebody
-- has set the clock back.
-- Called by figures_v1 and percentiles_v1.
CREATE OR REPLACE FUNCTION windows_v1() RETURNS TABLE ("window" text, place integer, starts timestamptz, seconds double precision)
LANGUAGE sql VOLATILE ROWS 3 SET search_path FROM CURRENT
AS $$
    SELECT w.name, w.place, w.starts,
           greatest(1, least(seconds_since_v1(w.starts),
                             (SELECT CASE WHEN seconds_since_v1(s.figures_since) > 0 THEN seconds_since_v1(s.figures_since) END
                                FROM worker_schema s)))
      FROM (SELECT v.name, v.place, date_bin(v.step, clock_timestamp(), '2000-01-01 00:00:00+00') - v.span AS starts
              FROM (VALUES ('5m', 1, interval '1 minute', interval '5 minutes'),
                           ('1h', 2, interval '10 minutes', interval '1 hour'),
                           ('24h', 3, interval '1 hour', interval '24 hours')) AS v (name, place, step, span)) w
     ORDER BY w.place
$$;
