-- contract
-- What the roles of rights.sql need: a gate that only a worker can take, who really stands behind an audit row, and who drops the
-- history's days. An older worker takes another gate, which no barrier looks at any more.

-- The gate that each lease passes, and that a barrier looks at, before the lease looks at the holds (lease_v1, barrier_v1): a
-- lock of this table. Who has no right to change it can't take one; an advisory lock anybody could. It has no rows, and needs none.
CREATE TABLE gate ();

-- `actor` is what the caller says of himself. Beside it stands what the database knows of his session: no right to write
-- these columns is given to anybody. Rows of before have none.
ALTER TABLE audit ADD login text, ADD application_name text, ADD client_addr inet;
ALTER TABLE audit
    ALTER login SET DEFAULT session_user,
    ALTER application_name SET DEFAULT current_setting('application_name'),
    ALTER client_addr SET DEFAULT inet_client_addr();

-- One row: who looked last for days of the history that are over, and dropped them. Only the tables' owner can: a worker that
-- logs in as such, or `shithubd-worker history drop`.
CREATE TABLE history_drops (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text        NOT NULL,
    login    text        NOT NULL DEFAULT session_user
);

-- Its result is no whole row of jobs any more: whoever sees who leases what need not see payloads.
DROP FUNCTION IF EXISTS in_scope_v1(text, text);
-- These two also return how many jobs the database refused to flip.
DROP FUNCTION IF EXISTS mirror_pause_v1(bigint, jsonb, integer);
DROP FUNCTION IF EXISTS unpause_v1(text, bigint, integer);
-- A worker says who it is, where it was asked for its id.
DROP FUNCTION IF EXISTS lost_v1(uuid, bigint, text, integer, text, text);
