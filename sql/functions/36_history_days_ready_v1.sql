-- How many days from today on have their partitions: 0 means that settles fail at the next midnight (UTC).
CREATE OR REPLACE FUNCTION history_days_ready_v1() RETURNS integer
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT coalesce(min(n), 0) - 1
      FROM generate_series(0, 400) AS n,
           LATERAL (SELECT to_char((clock_timestamp() AT TIME ZONE 'UTC')::date + n, 'YYYYMMDD') AS day) d
     WHERE to_regclass(format('job_history_7d_%s', d.day)) IS NULL
        OR to_regclass(format('job_history_90d_%s', d.day)) IS NULL
$$;
