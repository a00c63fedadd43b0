-- contract
-- The holds that stand: one that reached its end is over, even if no sweep took it away yet. Each function that obeys or shows
-- holds reads them here. A migration that changes the columns of holds must make it anew. It is a view, for PostgreSQL puts its text in the place of its name: a lease pays nothing for it.
CREATE VIEW standing_holds AS SELECT * FROM holds WHERE until IS NULL OR until > clock_timestamp();

-- Functions whose arguments or result became others. Their files make them anew; no older worker is left to call them.
DROP FUNCTION IF EXISTS lease_v1(
    uuid, uuid, text[], smallint[], smallint[], double precision[], bigint[], double precision[], integer[], boolean, bigint[],
    boolean);
