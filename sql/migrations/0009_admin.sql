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
    job_ids  bigint[] NOT NULL,
    before   jsonb[] NOT NULL,  -- job_face_v1 before the change
    after    jsonb[] NOT NULL,  -- job_face_v1 after it; null if the job is gone
    payloads jsonb[] NOT NULL,  -- the payload of a job that is gone, else null

    PRIMARY KEY (audit_id, id)
);

-- Functions of single jobs, which the administrative functions replace. Only commands called them.
DROP FUNCTION IF EXISTS retry_job_v1(bigint, text, text);
DROP FUNCTION IF EXISTS discard_job_v1(bigint, text, text);
DROP FUNCTION IF EXISTS release_job_v1(bigint, boolean, text, text);
