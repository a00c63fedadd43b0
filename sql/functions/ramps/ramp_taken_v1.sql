-- Takes the leases of a turn from the rates of their ramps. p_kinds has the kind of each lease.
-- Called by lease_v1, which has locked these ramps (ramp_rooms_v1).
CREATE OR REPLACE FUNCTION ramp_taken_v1(p_kinds text[]) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off
AS $$
    UPDATE ramps r SET tokens = greatest(ramp_tokens_v1(r) - t.taken, 0), filled_at = clock_timestamp()
      FROM (SELECT kind, count(*) AS taken FROM unnest(p_kinds) AS k (kind) GROUP BY 1) t
     WHERE r.kind = t.kind AND r.rate IS NOT NULL AND r.stopped_at IS NULL
$$;
