-- The write-ahead log is much larger than max_wal_size, so something keeps it: a slot, an archive that fails, wal_keep_size. It
-- is a check of its own, because only members of pg_monitor may look, and another login must still see the check `disk`.
SELECT 'warning' AS severity,
       format('the write-ahead log has %s, much more than max_wal_size (%s): something keeps it', pg_size_pretty(bytes),
              pg_size_pretty(usual)) AS said,
       jsonb_build_object('bytes', bytes, 'max_wal_size', usual) AS evidence,
       NULL::timestamptz AS since
  FROM (SELECT sum(size) AS bytes, pg_size_bytes(current_setting('max_wal_size')) AS usual FROM pg_ls_waldir()) AS log
 WHERE bytes > 2 * usual + :much_wal_bytes
