-- Tells whether an INSERT into jobs may send a NOTIFY.
-- A transaction with a NOTIFY cannot be prepared (PREPARE TRANSACTION fails), and a trigger cannot know how its
-- transaction will end. So by default enqueues notify only where no transaction can be prepared:
-- max_prepared_transactions is 0, which is PostgreSQL's default. The setting shithubd.notify overrides this, for a
-- database, a role, a session or a transaction. Set it to on where enqueues are never part of a two-phase commit, and to
-- off for those that are. Without a NOTIFY the next poll of a worker finds the job.
-- Called by the trigger on jobs, and by a worker at its start, which logs the answer.
CREATE OR REPLACE FUNCTION enqueues_notify_v1() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE current_setting('shithubd.notify', true)
               WHEN 'on' THEN true
               WHEN 'off' THEN false
               ELSE current_setting('max_prepared_transactions') = '0' END;
END $$;
