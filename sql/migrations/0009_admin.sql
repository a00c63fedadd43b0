-- expand
-- The administrative functions: what they change is recorded job by job, so that it can be undone.

-- The functions that `migrate` made whose names do not end in _v and a number: for each name a digest of the body. A function
-- of the application may have such a name, too, and `migrate` replaces none that does not stand here.
ALTER TABLE worker_schema ADD made jsonb NOT NULL DEFAULT '{}';

-- A job can also end because an operator says that it is done. PostgreSQL checks the older rows of the history never again.
ALTER TABLE job_history
    DROP CONSTRAINT job_history_outcome_is_known,
    ADD CONSTRAINT job_history_outcome_is_known CHECK (outcome IN
        ('ok', 'retry', 'failed', 'poison', 'released', 'crashed', 'lease_lost', 'discarded', 'completed')) NOT VALID;

-- One command is one row of audit, also if it changes a million jobs in many transactions: each of them adds to `jobs`.
-- `job_ids` has the first 100.
ALTER TABLE audit ADD jobs bigint NOT NULL DEFAULT 0;

-- What a command changed: one row for each transaction or part of one. The arrays run in parallel, in the order of the ids.
CREATE TABLE audit_chunks (
    audit_id bigint  NOT NULL REFERENCES audit ON DELETE CASCADE,
    id       bigint  GENERATED ALWAYS AS IDENTITY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    job_ids  bigint[] NOT NULL, -- ascending, at most 2,500
    before   jsonb[] NOT NULL,  -- job_face_v1 before the change; null if there was no such job
    after    jsonb[] NOT NULL,  -- job_face_v1 after it; null if the job is gone
    payloads jsonb[] NOT NULL,  -- the payload of a job that is gone, else null
    -- From the least to the greatest id. Not an int8range: that has no value for the range that ends with the last bigint.
    span     numrange NOT NULL GENERATED ALWAYS AS (numrange(job_ids[1], job_ids[cardinality(job_ids)], '[]')) STORED,

    PRIMARY KEY (audit_id, id)
);
-- Who changed job 42? The index finds the few chunks that may have it (list_audit_v1).
CREATE INDEX audit_chunks_span ON audit_chunks USING gist (span);
-- Was a row undone, and by which row?
CREATE INDEX audit_undos ON audit ((detail->'undoes')) WHERE action = 'undo';

-- Functions of single jobs, which the administrative functions replace. Only commands called them.
DROP FUNCTION IF EXISTS retry_job_v1(bigint, text, text);
DROP FUNCTION IF EXISTS discard_job_v1(bigint, text, text);
DROP FUNCTION IF EXISTS release_job_v1(bigint, boolean, text, text);

-- The timeline, the line for a webhook, and how long the record is kept.
-- `command` is the name that a command of ours gave itself (command_changes_v1). It is null for psql and for other programs.
-- `forgotten_at` is when the owner dropped how the jobs were (prune_audit_v1). Such a row can't be undone any more.
ALTER TABLE audit ADD command text, ADD forgotten_at timestamptz;
ALTER TABLE audit ALTER command SET DEFAULT nullif(current_setting('shithubd_worker.command', true), '');
CREATE INDEX audit_command ON audit (command) WHERE command IS NOT NULL;
CREATE INDEX audit_at ON audit (at);
-- What prune_audit_v1 looks for next.
CREATE INDEX audit_undoable ON audit (at) WHERE jobs > 0 AND forgotten_at IS NULL;
