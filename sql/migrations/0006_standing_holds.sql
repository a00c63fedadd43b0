-- contract
-- Functions whose arguments or result became others. Their files make them anew; no older worker is left to call them.
DROP FUNCTION IF EXISTS lease_v1(
    uuid, uuid, text[], smallint[], smallint[], double precision[], bigint[], double precision[], integer[], boolean, bigint[],
    boolean);
