-- expand
-- Functions whose arguments or result grow. Their files create them again. Workers of the former release call only
-- queue_gauges_v1 of these, without arguments, and still can.
DROP FUNCTION IF EXISTS kinds_v1(jsonb);
DROP FUNCTION IF EXISTS count_jobs_v1(integer, integer);
DROP FUNCTION IF EXISTS counted_kinds_v1(jsonb);
DROP FUNCTION IF EXISTS queue_gauges_v1();
