-- Tells what became of a batch whose COMMIT got no answer: how many jobs the audit row counts now; 0 without such a row.
-- Null while the transaction is still in progress. p_transaction is that of change_batch_v1. The caller compares the count with
-- the count before the batch. After a failover the number of a transaction says nothing, but the audit row does.
CREATE OR REPLACE FUNCTION batch_fate_v1(p_transaction text, p_audit bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
    BEGIN
        IF pg_xact_status(p_transaction::xid8) = 'in progress' THEN
            RETURN NULL;
        END IF;
    EXCEPTION WHEN invalid_parameter_value THEN
        NULL;  -- this server has not used that number yet
    END;
    RETURN coalesce((SELECT a.jobs FROM audit a WHERE a.id = p_audit), 0);
END $$;
