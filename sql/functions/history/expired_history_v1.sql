-- The partitions whose days are over: to be detached (concurrently, which no function can do) and then dropped.
-- `state` is attached, pending (a detach was interrupted: FINALIZE it) or detached (only the drop is missing).
CREATE OR REPLACE FUNCTION expired_history_v1() RETURNS TABLE (parent text, partition text, state text)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT c.parent, t.relname::text,
           CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END
      FROM history_classes_v1() c
      JOIN pg_class t ON t.relname ~ ('^' || c.parent || '_[0-9]{8}$')
       AND t.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
       AND t.relowner = (SELECT relowner FROM pg_class WHERE oid = 'job_history'::regclass)  -- not somebody else's table
      LEFT JOIN pg_inherits i ON i.inhrelid = t.oid
     WHERE right(t.relname, 8) < to_char((clock_timestamp() AT TIME ZONE 'UTC')::date - c.days, 'YYYYMMDD')
     ORDER BY t.relname
$$;
