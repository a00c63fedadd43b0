-- A replication slot whose standby or subscriber does not take what the slot keeps for it: the write-ahead log, and dead rows.
-- Nothing ends that but the slot's owner, so the disk fills up. A slot that was used a moment ago is a notice: its standby may
-- only restart. A slot that keeps nothing, because nobody has used it yet, is no finding. What a standby in use holds back is the
-- check `standby`.
WITH slots AS (
    SELECT s.slot_name, s.slot_type, s.database, s.active, s.wal_status, s.xmin, s.catalog_xmin,
           greatest(age(s.xmin), age(s.catalog_xmin)) AS transactions,
           pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                           s.restart_lsn) AS bytes,
           (to_jsonb(s) ->> 'inactive_since')::timestamptz AS unused_since  -- PostgreSQL 17 knows it
      FROM pg_replication_slots s
)
SELECT CASE WHEN wal_status = 'lost' THEN 'warning'
            WHEN bytes >= :too_much_wal_bytes THEN 'critical'
            WHEN bytes >= :much_wal_bytes OR wal_status = 'unreserved' OR transactions >= :many_transactions
                 OR unused_since <= clock_timestamp() - make_interval(secs => :old_seconds) THEN 'warning'
            ELSE 'notice' END AS severity,
       CASE WHEN wal_status = 'lost'
            THEN format('what the replication slot %s kept is gone: its standby or subscriber must be built anew', slot_name)
            WHEN active THEN format('the user of the replication slot %s is behind, and the slot keeps %s of the write-ahead log',
                                    slot_name, pg_size_pretty(bytes))
            ELSE format('nobody uses the replication slot %s, and it keeps %s of the write-ahead log', slot_name,
                        coalesce(pg_size_pretty(bytes), 'nothing'))
                 || CASE WHEN xmin IS NOT NULL THEN ', and dead rows'
                         WHEN catalog_xmin IS NOT NULL THEN ', and dead rows of the catalogs' ELSE '' END END AS said,
       jsonb_build_object('slot', slot_name, 'type', slot_type, 'database', database, 'active', active,
                          'wal_status', wal_status, 'bytes', bytes, 'transactions', transactions) AS evidence,
       unused_since AS since
  FROM slots
 WHERE (NOT active AND coalesce(bytes, transactions) IS NOT NULL) OR wal_status IN ('lost', 'unreserved')
    OR bytes >= :much_wal_bytes
