-- contract
-- What the roles of rights.sql need:
--   - a gate that only a worker can take
--   - the login behind each audit row
--   - a record of who drops the history's days
-- An older worker takes another gate, which no barrier looks at any more.

-- The gate is a lock of this table. Each lease takes it before it looks at the holds, and a barrier waits for those who have it
-- (lease_v1, barrier_v1). It takes the right to update the table, whereas anybody can take an advisory lock. The table needs no
-- rows.
CREATE TABLE gate ();

-- `actor` is the name that the caller gives. These columns are what the database itself knows about the caller's session;
-- nobody gets the right to write them. Older rows have null in them.
ALTER TABLE audit ADD login text, ADD application_name text, ADD client_addr inet;
ALTER TABLE audit
    ALTER login SET DEFAULT session_user,
    ALTER application_name SET DEFAULT current_setting('application_name'),
    ALTER client_addr SET DEFAULT inet_client_addr();

-- One row: who last dropped the days of the history that are over, and when. Only the tables' owner can do that: a worker that
-- logs in as the owner, or `shithubd-worker history drop`.
CREATE TABLE history_drops (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text        NOT NULL,
    login    text        NOT NULL DEFAULT session_user
);

-- Its result is no longer a whole row of jobs, because a reader of the leases need not see payloads.
DROP FUNCTION IF EXISTS in_scope_v1(text, text);
-- These two also return how many jobs the database refused to flip.
DROP FUNCTION IF EXISTS mirror_pause_v1(bigint, jsonb, integer);
DROP FUNCTION IF EXISTS unpause_v1(text, bigint, integer);
-- A worker now gives its name instead of its id.
DROP FUNCTION IF EXISTS lost_v1(uuid, bigint, text, integer, text, text);
