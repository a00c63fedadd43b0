-- contract
-- The holds that stand. A hold whose end has passed is over, even if no sweep has removed it yet. Each function that obeys or
-- shows holds reads this view. A migration that changes the columns of holds must create the view again. A view costs the lease
-- nothing, because PostgreSQL replaces its name by its text.
CREATE VIEW standing_holds AS SELECT * FROM holds WHERE until IS NULL OR until > clock_timestamp();

-- Functions whose arguments or result change. Their files create them again. No older worker is left that could call them.
DROP FUNCTION IF EXISTS lease_v1(
    uuid, uuid, text[], smallint[], smallint[], double precision[], bigint[], double precision[], integer[], boolean, bigint[],
    boolean);
