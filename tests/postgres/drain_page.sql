-- The statements of the drain runbook that this project was founded on, as an operator types them. They are the
-- contract of the table jobs: a test runs them from this file, and they must never need to be changed.

-- confirm drain
SELECT state, count(*) FROM jobs GROUP BY state;

-- find the rogue worker
SELECT id, kind, leased_by, leased_at FROM jobs WHERE state='processing';

-- drain only one job kind
UPDATE jobs
   SET state='paused'
 WHERE state='queued'
   AND kind='search.reindex';

-- resume by flipping back
UPDATE jobs
   SET state='queued'
 WHERE state='paused'
   AND kind='search.reindex';

-- force re-lease of a stuck job
UPDATE jobs
   SET leased_at = NULL, leased_by = NULL, state = 'queued'
 WHERE id = <job-id>;
