-- expand
-- Recovery by heartbeat, and resumes that do not let a million jobs start at once.

-- After how many seconds without a sign of life a worker gives up its run, so that another may have its jobs. Null: it promises
-- nothing, and its jobs return only when their leases expire. A worker of a former release has null.
ALTER TABLE workers ADD gives_up double precision
    CONSTRAINT workers_gives_up_is_a_time CHECK (gives_up > 0 AND gives_up < 'infinity');

-- One row: the sweep for silent workers. Who sweeps locks the row, so there is one sweeper at a time. It is a row and no
-- advisory lock: anybody can hold an advisory lock, but only a worker and the owner have the right to lock this row.
CREATE TABLE sweeper (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    swept_at timestamptz NOT NULL DEFAULT '-infinity',
    swept_by text                                       -- <host>:<pid>
) WITH (fillfactor = 50);
INSERT INTO sweeper DEFAULT VALUES;

-- A ramp: the pause of a kind that lets some jobs through. The hold stays until the ramp is over, and the lease of every
-- worker obeys both (ramp_rooms_v1). One row for each kind that is resumed in steps.
CREATE TABLE ramps (
    id         bigint           GENERATED ALWAYS AS IDENTITY UNIQUE,
    hold_id    bigint           PRIMARY KEY REFERENCES holds (id) ON DELETE CASCADE,
    kind       text             NOT NULL UNIQUE,
    canary     integer          CHECK (canary BETWEEN 1 AND 1000),  -- so many jobs first; go on when all ended ok
    steps      integer[],             -- percent of the workers that may work on the kind at once, one step after the other
    every      double precision CHECK (every BETWEEN 1 AND 864000), -- seconds that each step lasts
    rate       double precision CHECK (rate > 0 AND rate <= 1000000), -- leases per second of the whole fleet, at most
    stop_at    double precision NOT NULL CHECK (stop_at > 0 AND stop_at <= 1),  -- this part of the jobs failed: stop
    began      timestamptz      NOT NULL DEFAULT clock_timestamp(),
    passed_at  timestamptz,           -- when the canary ended well; the steps begin here. Without a canary: began
    -- Jobs that were leased under this ramp and ended well, and runs that ended in retry, failed, poison or a crash. No ramp
    -- reaches the limit. So their sums never overflow.
    ok         bigint           NOT NULL DEFAULT 0 CHECK (ok BETWEEN 0 AND 1000000000000000),
    bad        bigint           NOT NULL DEFAULT 0 CHECK (bad BETWEEN 0 AND 1000000000000000),
    -- Of the rate: leases that could be taken at once at the time filled_at.
    tokens     double precision NOT NULL DEFAULT 1 CHECK (tokens BETWEEN 0 AND 1000000),
    filled_at  timestamptz      NOT NULL DEFAULT clock_timestamp(),
    added      bigint           NOT NULL DEFAULT 0, -- ends with this id or a lower one are in ok and bad (ramp_forward_v1)
    over_at    timestamptz,           -- when the last step ends; null: not known yet, or never
    stopped_at timestamptz,           -- it stopped, because runs failed; nothing more is leased
    stopped    text,                  -- why

    CONSTRAINT ramps_limit_something CHECK (canary IS NOT NULL OR steps IS NOT NULL OR rate IS NOT NULL),
    -- That the steps rise, ramp_kind_v1 checks: a CHECK cannot compare the items of an array with each other.
    CONSTRAINT ramps_steps_are_percentages CHECK (steps IS NULL OR coalesce(
        every IS NOT NULL AND array_ndims(steps) = 1 AND array_lower(steps, 1) = 1 AND cardinality(steps) <= 100
        AND array_position(steps, NULL) IS NULL AND 0 < ALL (steps) AND 100 >= ALL (steps), false)),
    CONSTRAINT ramps_times_are_finite CHECK (isfinite(began) AND isfinite(filled_at) AND isfinite(coalesce(passed_at, began))
                                             AND isfinite(coalesce(over_at, began)) AND isfinite(coalesce(stopped_at, began))),
    CONSTRAINT ramps_stopped_with_a_reason CHECK ((stopped_at IS NULL) = (stopped IS NULL))
) WITH (fillfactor = 50);

-- How jobs of a ramped kind ended, since somebody added these rows up (ramp_forward_v1). A settle only inserts here, so it never
-- waits for another one. There is no foreign key: a settle must not wait for the end of a ramp, nor fail because of it.
CREATE TABLE ramp_ends (
    ramp bigint  NOT NULL,                              -- ramps.id: the ends of a former ramp of the kind count for nobody
    id   bigint  GENERATED ALWAYS AS IDENTITY,
    ok   integer NOT NULL CHECK (ok >= 0),
    bad  integer NOT NULL CHECK (bad >= 0),
    PRIMARY KEY (ramp, id)
);

-- Functions whose arguments grow by one with a default. Their files create them again. A worker of a former release still
-- can call them.
DROP FUNCTION IF EXISTS register_v1(
    uuid, text, integer, text, text, bigint, bigint, text, text, text, integer, text[]);
DROP FUNCTION IF EXISTS sweep_v1(uuid, double precision, uuid[], integer, double precision, text[], double precision[]);
DROP FUNCTION IF EXISTS held_kinds_v1();
DROP FUNCTION IF EXISTS return_dead_v1(bigint[], text);
DROP FUNCTION IF EXISTS return_crashed_v1(bigint[], bigint[], text, text);
DROP FUNCTION IF EXISTS sweep_leases_v1(text, text, double precision, bigint, integer);
DROP FUNCTION IF EXISTS return_recorded_v1(bigint[], text, text, jsonb, text, text, bigint);
