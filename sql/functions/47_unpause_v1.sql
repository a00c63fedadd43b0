-- paused → queued for the next p_limit jobs of a kind, oldest first, those paused by hand too. Returns how many: 0 ends
-- the work. Called again and again by resume-kind, each batch a transaction.
CREATE OR REPLACE FUNCTION unpause_v1(p_kind text, p_limit integer DEFAULT 5000) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    v_count integer;
BEGIN
    UPDATE jobs SET state = 'queued'
     WHERE id IN (SELECT id FROM jobs WHERE state = 'paused' AND kind = p_kind ORDER BY id LIMIT p_limit FOR UPDATE);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    PERFORM wake_v1();
    RETURN v_count;
END $$;
