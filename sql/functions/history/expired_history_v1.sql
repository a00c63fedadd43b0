-- Lists the day partitions whose retention is over, and the tables that remain of such partitions.
-- parent is the table of the retention class, partition the table of the day. state is one of:
--   attached  the partition must be detached and dropped
--   pending   a DETACH ... CONCURRENTLY was interrupted: repeat it with FINALIZE
--   detached  only the DROP TABLE is missing
-- Only tables of the queue's owner are listed. No function can detach a partition concurrently, so `history drop` does it,
-- or a worker whose login owns the tables.
CREATE OR REPLACE FUNCTION expired_history_v1() RETURNS TABLE (parent text, partition text, state text)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT c.parent, t.relname::text,
           CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END
      FROM history_classes_v1() c
      JOIN pg_class t ON t.relname ~ ('^' || c.parent || '_[0-9]{8}$')
       AND t.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
       AND t.relowner = (SELECT relowner FROM pg_class WHERE oid = 'job_history'::regclass)  -- no table of somebody else
      LEFT JOIN pg_inherits i ON i.inhrelid = t.oid
     WHERE right(t.relname, 8) < to_char((clock_timestamp() AT TIME ZONE 'UTC')::date - c.days, 'YYYYMMDD')
     ORDER BY t.relname
$$;
