-- expand
-- leases_returned now counts every outcome that a worker leaves behind, and not only the leases of dead workers. A worker that
-- leaves adds what it has counted and no scrape has seen. `forced` counts the processes that were ended because a handler of
-- the kind did not stop.
ALTER TABLE leases_returned
    ADD COLUMN ok         bigint NOT NULL DEFAULT 0,
    ADD COLUMN retry      bigint NOT NULL DEFAULT 0,
    ADD COLUMN failed     bigint NOT NULL DEFAULT 0,
    ADD COLUMN released   bigint NOT NULL DEFAULT 0,
    ADD COLUMN lease_lost bigint NOT NULL DEFAULT 0,
    ADD COLUMN forced     bigint NOT NULL DEFAULT 0,
    ALTER COLUMN crashed SET DEFAULT 0,
    ALTER COLUMN poison SET DEFAULT 0;
