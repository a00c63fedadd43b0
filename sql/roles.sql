-- Makes the roles of a queue that are missing. Logins are members of them; rights.sql says what each role may do.
-- `shithubd-worker migrate --roles` runs this file. If its login lacks CREATEROLE, a superuser or a login with CREATEROLE can
-- run it by psql.
--
--   shithub_owner     owns the tables and functions; nobody logs in as it
--   shithub_migrate   may become the owner, and nothing else: `migrate`, `history drop`
--   shithub_worker    `run`, `release-dead`
--   shithub_enqueue   INSERT INTO jobs
--   shithub_operator  `drain`, `pause-kind`, `jobs`, ..., and the SQL of the runbook's pages; may enqueue, too
--   shithub_metrics   `status`, `workers`, `doctor`, and what the metrics endpoint reads: no payloads
DO $$
DECLARE
    v_name text;
BEGIN
    FOREACH v_name IN ARRAY ARRAY['owner', 'worker', 'enqueue', 'operator', 'metrics'] LOOP
        IF to_regrole('shithub_' || v_name) IS NULL THEN
            EXECUTE 'CREATE ROLE shithub_' || v_name;
        END IF;
    END LOOP;
    -- NOINHERIT: its members have the owner's rights only after SET ROLE, so they change nothing by accident.
    IF to_regrole('shithub_migrate') IS NULL THEN
        CREATE ROLE shithub_migrate NOINHERIT;
    END IF;
    IF NOT pg_has_role('shithub_migrate', 'shithub_owner', 'MEMBER') THEN
        GRANT shithub_owner TO shithub_migrate;
    END IF;
END $$;
