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

-- Plans: what an operator is going to do, to which jobs, and how each of these jobs was at that moment. plan_jobs_v1 writes a plan,
-- apply_chunk_v1 does it, once. Nobody else writes here, so that a plan is what it says.
CREATE TABLE job_plans (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest           text        NOT NULL,  -- of the action, its arguments, the ids and the faces
    -- What people call the plan. It has a part of the digest, so that a mistyped number names no other plan.
    name             text        NOT NULL UNIQUE GENERATED ALWAYS AS (id::text || '-' || left(digest, 6)) STORED,
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at       timestamptz NOT NULL,  -- it must begin before
    actor            text        NOT NULL,
    login            text        NOT NULL DEFAULT session_user,
    application_name text        DEFAULT current_setting('application_name'),
    client_addr      inet        DEFAULT inet_client_addr(),
    action           text        NOT NULL,
    arguments        jsonb       NOT NULL,
    selection        jsonb       NOT NULL,
    statement        text        NOT NULL,  -- the SELECT that found the jobs
    reason           text,
    jobs             bigint      NOT NULL,  -- how many
    chunks           integer     NOT NULL,  -- in how many transactions the plan is done
    done             integer     NOT NULL DEFAULT 0,  -- how many of them are done
    changed          bigint      NOT NULL DEFAULT 0,  -- how many jobs they changed
    applied_by       text,                  -- the actor of the last one
    applied_at       timestamptz,           -- when the last one was done

    CONSTRAINT job_plans_action_is_known
        CHECK (action IN ('complete', 'fail', 'reschedule', 'retry', 'discard', 'release')),
    CONSTRAINT job_plans_arguments_are_known
        CHECK (CASE jsonb_typeof(arguments) WHEN 'object'
               THEN arguments - '{error,run_at,priority,attempts,max_attempts,accept_second_run}'::text[] = '{}' ELSE false END),
    CONSTRAINT job_plans_selection_is_known
        CHECK (CASE jsonb_typeof(selection) WHEN 'object'
               THEN selection - '{kind,state,error,created_before,payload}'::text[] = '{}' ELSE false END),
    CONSTRAINT job_plans_done_of_chunks
        CHECK (done BETWEEN 0 AND chunks)
);

-- The jobs of a plan. The arrays run in parallel, in the order of the ids.
CREATE TABLE job_plan_chunks (
    plan_id  bigint   NOT NULL REFERENCES job_plans ON DELETE CASCADE,
    number   integer  NOT NULL,
    job_ids  bigint[] NOT NULL,
    faces    jsonb[]  NOT NULL,   -- job_face_v1 when the plan was made
    refused  jsonb,              -- null: not done yet; else why it did not change some jobs, by their ids
    audit_id bigint,             -- the audit row, if it changed jobs

    PRIMARY KEY (plan_id, number),
    CONSTRAINT job_plan_chunks_ids_and_faces
        CHECK (CASE array_ndims(job_ids) WHEN 1
               THEN array_position(job_ids, NULL) IS NULL AND cardinality(faces) = cardinality(job_ids)
               ELSE job_ids = '{}' END),
    CONSTRAINT job_plan_chunks_refused_by_ids
        CHECK (CASE jsonb_typeof(refused) WHEN 'object'
               THEN NOT jsonb_path_exists(refused, '$.keyvalue() ? (!(@.key like_regex "^-?[0-9]+$"))')
               ELSE refused IS NULL END)
);

-- The timeline, the line for a webhook, and how long the record is kept.
-- `command` is the name that a command of ours gave itself (command_changes_v1). It is null for psql and for other programs.
-- `forgotten_at` is when the owner dropped how the jobs were (prune_audit_v1). Such a row can't be undone any more.
ALTER TABLE audit ADD command text, ADD forgotten_at timestamptz;
ALTER TABLE audit ALTER command SET DEFAULT nullif(current_setting('shithubd_worker.command', true), '');
CREATE INDEX audit_command ON audit (command) WHERE command IS NOT NULL;
CREATE INDEX audit_at ON audit (at);
-- What prune_audit_v1 looks for next.
CREATE INDEX audit_undoable ON audit (at) WHERE jobs > 0 AND forgotten_at IS NULL;
