-- expand
-- What ended with its worker is counted here whatever it came to, not only what was taken from the dead: what a worker counted
-- and no scrape had seen when it left. `forced`: processes that were ended because a handler of the kind didn't stop.
ALTER TABLE leases_returned
    ADD COLUMN ok         bigint NOT NULL DEFAULT 0,
    ADD COLUMN retry      bigint NOT NULL DEFAULT 0,
    ADD COLUMN failed     bigint NOT NULL DEFAULT 0,
    ADD COLUMN released   bigint NOT NULL DEFAULT 0,
    ADD COLUMN lease_lost bigint NOT NULL DEFAULT 0,
    ADD COLUMN forced     bigint NOT NULL DEFAULT 0,
    ALTER COLUMN crashed SET DEFAULT 0,
    ALTER COLUMN poison SET DEFAULT 0;
