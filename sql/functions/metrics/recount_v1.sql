-- Counts the queue and stores the result for all workers that are scraped (queue_counts).
-- The cap is well above the depths that alerts ask for. Called by the metrics endpoint, in the background, after
-- claim_count_v1. The caller sets a time limit.
CREATE OR REPLACE FUNCTION recount_v1(p_cap integer DEFAULT 10000, p_total integer DEFAULT 300000) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
DECLARE
    v_now    timestamptz := clock_timestamp();
    v_counts jsonb;
BEGIN
    SET LOCAL synchronous_commit = off;
    SELECT coalesce(jsonb_agg(to_jsonb(c)), '[]') INTO v_counts FROM count_jobs_v1(p_cap, p_total) c;
    UPDATE queue_counts
       SET counts = v_counts, counted_at = v_now, seconds = extract(epoch FROM clock_timestamp() - v_now);
END $$;
