-- Returns the last row that a job has in the history, without its payload; no row if it has none.
-- Called by explain_job_v1 and its checks. The index of the history (BRIN) needs a bitmap scan.
CREATE OR REPLACE FUNCTION last_end_v1(p_id bigint) RETURNS TABLE (
    kind text, outcome text, attempts integer, leased_by text, leased_at timestamptz, finished_at timestamptz, error text,
    retention text)
LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off
AS $$
    SELECT h.kind, h.outcome, h.attempts, h.leased_by, readable_v1(h.leased_at), readable_v1(h.finished_at),
           left(h.error, 10000), h.retention
      FROM job_history h WHERE h.id = p_id ORDER BY h.finished_at DESC LIMIT 1
$$;
