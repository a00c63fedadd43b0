-- The queue can't be written: this server is a standby, or its settings make each transaction read-only. Workers run nothing.
SELECT 'critical' AS severity,
       CASE WHEN pg_is_in_recovery() THEN 'this server is a standby, and takes no writes: no job runs from here'
            ELSE 'transactions are read-only here by default (default_transaction_read_only): no job runs' END AS said,
       jsonb_build_object('standby', pg_is_in_recovery(),
                          'default_transaction_read_only', current_setting('default_transaction_read_only')) AS evidence,
       NULL::timestamptz AS since
 WHERE pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean
