-- Settings with which a crash of the database's host loses jobs, or all data. Somebody chose them, and nothing gets worse until
-- the crash, so it is a notice.
SELECT 'notice' AS severity,
       format('the setting %s is off: %s', name, loses) AS said,
       jsonb_build_object('setting', name, 'value', current_setting(name)) AS evidence,
       NULL::timestamptz AS since
  FROM (VALUES ('fsync', 'a crash of the database''s host can destroy all data'),
               ('full_page_writes', 'a crash of the database''s host can destroy data'),
               ('synchronous_commit', 'a crash of the database loses the enqueues of the last second'))
       AS settings (name, loses)
 WHERE current_setting(name) = 'off'
