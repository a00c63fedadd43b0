-- contract
-- A worker's signs of life get a table of their own. Each lease reads its worker's row in workers. Each beat leaves a dead
-- version of the row that it updates, and these pile up while somebody holds a snapshot. So workers is written only at a
-- worker's start. Whether a worker wants to be woken is no longer in a row, but a lock of its session (lease_v1).
CREATE TABLE beats (
    worker_id uuid        PRIMARY KEY REFERENCES workers ON DELETE CASCADE,
    state     text        NOT NULL DEFAULT 'starting',
    job_id    bigint,                 -- what it runs, as of its last beat
    job_kind  text,
    job_since timestamptz,
    beat_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    unsettled bigint[]    NOT NULL DEFAULT '{}'  -- jobs that it has finished and can't settle, because somebody has locked them
) WITH (fillfactor = 50);

INSERT INTO beats (worker_id, state, job_id, job_kind, job_since, beat_at)
SELECT id, state, job_id, job_kind, job_since, beat_at FROM workers;

ALTER TABLE workers
    DROP COLUMN state, DROP COLUMN job_id, DROP COLUMN job_kind, DROP COLUMN job_since, DROP COLUMN idle, DROP COLUMN beat_at;
ALTER TABLE workers RESET (fillfactor);

-- Functions whose arguments or result change. Their files create them again. No older worker is left that could call them.
DROP FUNCTION IF EXISTS lease_v1(
    uuid, uuid, text[], smallint[], smallint[], double precision[], bigint[], double precision[], integer[], boolean);
DROP FUNCTION IF EXISTS sweep_v1(uuid, double precision, uuid[], integer);
DROP FUNCTION IF EXISTS payloads_v1(bigint[], uuid);
DROP FUNCTION IF EXISTS housemates_v1(uuid, text);
DROP FUNCTION IF EXISTS return_crashed_v1(bigint[], text);
DROP FUNCTION IF EXISTS unregister_v1(uuid);
DROP FUNCTION IF EXISTS beat_v1(uuid, text, bigint, text, double precision);
DROP FUNCTION IF EXISTS release_strays_v1(uuid, uuid[]);
