-- Lists how many attempts ended in each window (windows_v1), by kind and outcome. A kind without figures has no row.
-- runs are the attempts that ran to an end; failures are those of them that did not end well. left_queue are the jobs that
-- came to their end, and pace is how many of them per second. If they are 20 or more, it counts from the first of them (a row
-- has what ended in the 10 seconds before it, too), or a worker that began a minute ago would look slow for the whole window.
-- Of fewer jobs nobody knows when the work on them began. Rows in the future are left out: somebody has set the clock back.
-- p_kind limits it to one kind. Called by stats_v1 and rate_v1.
CREATE OR REPLACE FUNCTION figures_v1(p_kind text DEFAULT NULL) RETURNS TABLE (
    kind text, "window" text, place integer, seconds double precision, ok numeric, retry numeric, failed numeric, poison numeric,
    released numeric, crashed numeric, lease_lost numeric, runs numeric, failures numeric, left_queue numeric,
    pace double precision)
LANGUAGE sql VOLATILE SET search_path FROM CURRENT SET jit = off
AS $$
    WITH w AS MATERIALIZED (SELECT * FROM windows_v1()),
    s AS MATERIALIZED (
        SELECT s.kind, s.age, sum(s.ok) AS ok, sum(s.retry) AS retry, sum(s.failed) AS failed, sum(s.poison) AS poison,
               sum(s.released) AS released, sum(s.crashed) AS crashed, sum(s.lease_lost) AS lease_lost,
               min(s.begins) FILTER (WHERE s.ok + s.failed + s.poison > 0) AS since
          FROM (SELECT s.*, CASE WHEN s.begins >= a.starts THEN 1 WHEN s.begins >= b.starts THEN 2 ELSE 3 END AS age
                  FROM kind_stats s, w a, w b, w c
                 WHERE a.place = 1 AND b.place = 2 AND c.place = 3
                   AND s.begins >= c.starts AND s.begins <= clock_timestamp() AND (p_kind IS NULL OR s.kind = p_kind)) s
         GROUP BY s.kind, s.age
    ), summed AS (
        SELECT s.kind, w."window", w.place, w.seconds, sum(s.ok) AS ok, sum(s.retry) AS retry, sum(s.failed) AS failed,
               sum(s.poison) AS poison, sum(s.released) AS released, sum(s.crashed) AS crashed, sum(s.lease_lost) AS lease_lost,
               sum(s.ok) + sum(s.failed) + sum(s.poison) AS left_queue, min(s.since) AS since
          FROM s JOIN w ON s.age <= w.place
         GROUP BY s.kind, w."window", w.place, w.seconds
    )
    SELECT s.kind, s."window", s.place, s.seconds, s.ok, s.retry, s.failed, s.poison, s.released, s.crashed, s.lease_lost,
           s.ok + s.retry + s.failed + s.poison + s.crashed, s.retry + s.failed + s.poison + s.crashed, s.left_queue,
           s.left_queue::double precision
               / CASE WHEN s.left_queue >= 20 THEN least(s.seconds, 10 + greatest(0, seconds_since_v1(s.since))) ELSE s.seconds END
      FROM summed s
$$;
