-- May an INSERT into jobs send a NOTIFY? A transaction with one can't be prepared (PREPARE TRANSACTION fails), and no
-- trigger can tell how its transaction will end. So by default only where none can be prepared: max_prepared_transactions
-- is 0, as PostgreSQL has it. shithubd.notify says otherwise, for a database, a role, a session or a transaction: on where
-- enqueues are never part of a two-phase commit, off for those that are. Without a NOTIFY a job is found by a worker's next
-- poll. Called by the trigger on jobs, and by a worker at its start, which logs it.
CREATE OR REPLACE FUNCTION enqueues_notify_v1() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE current_setting('shithubd.notify', true)
               WHEN 'on' THEN true
               WHEN 'off' THEN false
               ELSE current_setting('max_prepared_transactions') = '0' END;
END $$;
