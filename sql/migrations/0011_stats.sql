-- expand
-- Figures of each kind for the last 25 hours: how many runs ended how, how long jobs waited, and how long they ran.

-- Each worker adds what it counted, every 10 seconds (write_stats_v1). A row is a sum, and rows of one kind and span add up. So
-- a worker only inserts, and never waits for another one. Rows of a past span are folded into one row of a longer span
-- (fold_stats_v1): of 10 seconds into a minute, then into ten minutes, then into an hour.
CREATE TABLE kind_stats (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text        NOT NULL,
    seconds    integer     NOT NULL DEFAULT 10,  -- how long the span is
    begins     timestamptz NOT NULL DEFAULT date_bin('10 seconds', clock_timestamp(), '2000-01-01 00:00:00+00'),
    -- Where the longer span begins, into which it is folded.
    folds_into timestamptz NOT NULL GENERATED ALWAYS AS (
        date_bin(CASE seconds WHEN 10 THEN interval '1 minute' WHEN 60 THEN interval '10 minutes' ELSE interval '1 hour' END,
                 begins, '2000-01-01 00:00:00+00')) STORED,
    ok         bigint      NOT NULL DEFAULT 0,   -- attempts that ended, by outcome
    retry      bigint      NOT NULL DEFAULT 0,
    failed     bigint      NOT NULL DEFAULT 0,
    poison     bigint      NOT NULL DEFAULT 0,
    released   bigint      NOT NULL DEFAULT 0,
    crashed    bigint      NOT NULL DEFAULT 0,
    lease_lost bigint      NOT NULL DEFAULT 0,
    -- Histograms: {"1095": 3} means 3 values near 1095 microseconds. That is the middle of their bucket (telemetry/buckets.py).
    waits      jsonb       NOT NULL DEFAULT '{}', -- from when a job could run to its lease
    runs       jsonb       NOT NULL DEFAULT '{}', -- how long its handler ran

    -- The same rule as for jobs.
    CONSTRAINT kind_stats_kind_is_a_name
        CHECK (char_length(kind) BETWEEN 1 AND 200 AND kind !~ '[[:cntrl:]]'),
    -- fold_stats_v1 knows the next span of each of these.
    CONSTRAINT kind_stats_span_is_known
        CHECK (seconds IN (10, 60, 600, 3600)),
    -- A row that never gets old would never be removed.
    CONSTRAINT kind_stats_begins_at_a_time
        CHECK (isfinite(begins)),
    -- No kind reaches the limit. fold_stats_v1 keeps sums below it, so that a fold never fails.
    CONSTRAINT kind_stats_counts_have_limits
        CHECK (least(ok, retry, failed, poison, released, crashed, lease_lost) >= 0
               AND greatest(ok, retry, failed, poison, released, crashed, lease_lost) <= 1000000000000000),
    -- What is added up here must be a number.
    CONSTRAINT kind_stats_histograms_count
        CHECK (jsonb_typeof(waits) = 'object' AND jsonb_typeof(runs) = 'object'
               AND NOT jsonb_path_exists(jsonb_build_array(waits, runs), '$[*].keyvalue() ? (!(
                       @.key like_regex "^[0-9]{1,15}$" && @.value.type() == "number"
                       && @.value >= 0 && @.value <= 1000000000000000))'))
);
-- Which rows are past? It has the order in which fold_stats_v1 takes them: what becomes one row stands together.
CREATE INDEX kind_stats_spans ON kind_stats (seconds, folds_into, kind);

-- Since when workers can write figures. A rate counts from here, if its window began earlier.
ALTER TABLE worker_schema ADD figures_since timestamptz NOT NULL DEFAULT clock_timestamp();

-- A function whose arguments grow by two with a default. Its file creates it again. Only commands call it.
DROP FUNCTION IF EXISTS named_kinds_v1(integer, text);
