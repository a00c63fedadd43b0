-- expand
-- The tables of the forge's own handlers: the full-text index of search.reindex, and the records of repo.maintenance.

-- One row for each repository that was indexed. Delete the row to have the repository indexed from scratch.
CREATE TABLE search_repos (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repo       text        NOT NULL UNIQUE,   -- its path relative to the repository root
    ref        text        NOT NULL,          -- the ref that the last run was asked to index
    commit     text        NOT NULL,          -- the commit of that ref then
    files      integer     NOT NULL,
    generation bigint      NOT NULL,          -- grows with each run, so that two runs at once notice each other
    indexed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row for each regular file of the indexed commit.
CREATE TABLE search_files (
    repo_id    bigint      NOT NULL REFERENCES search_repos ON DELETE CASCADE,
    path       text        NOT NULL,          -- \xff stands for a byte that isn't UTF-8
    oid        text        NOT NULL,          -- git's id of the content: while it is unchanged, the content isn't read again
    content    text,                          -- null for a binary or a large file, which is found by its path only
    tsv        tsvector    NOT NULL,          -- the words of path (A) and content, and the parts of its compounds
    indexed_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    PRIMARY KEY (repo_id, path)
);
-- The search reads this index.
CREATE INDEX search_files_words ON search_files USING gin (tsv);

-- One row for each maintenance that was done, kept for a year. Sizes are in bytes, of all objects on disk.
CREATE TABLE repo_maintenance (
    id           bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repo         text             NOT NULL,   -- its path relative to the repository root
    job_id       bigint           NOT NULL,
    started_at   timestamptz      NOT NULL,
    seconds      double precision NOT NULL,   -- git's time
    size_before  bigint           NOT NULL,
    size_after   bigint           NOT NULL,
    loose_before integer          NOT NULL,   -- objects in a file of their own
    loose_after  integer          NOT NULL,
    packs_before integer          NOT NULL,
    packs_after  integer          NOT NULL
);
-- Queries for one repository's records read this index. Each run reads it, too, to delete the repository's old rows.
CREATE INDEX repo_maintenance_repo ON repo_maintenance (repo, started_at);
