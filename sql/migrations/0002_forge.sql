-- expand
-- What the forge's own handlers keep: the full-text index of search.reindex, and the records of repo.maintenance.

-- One row for each repository that was indexed. To have a repository indexed anew from nothing, delete its row.
CREATE TABLE search_repos (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repo       text        NOT NULL UNIQUE,   -- its path relative to the repository root
    ref        text        NOT NULL,          -- what was asked for when it was last indexed
    commit     text        NOT NULL,          -- what that was then
    files      integer     NOT NULL,
    generation bigint      NOT NULL,          -- grows with each run: two runs at once find each other by it
    indexed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row for each regular file of the indexed commit.
CREATE TABLE search_files (
    repo_id    bigint      NOT NULL REFERENCES search_repos ON DELETE CASCADE,
    path       text        NOT NULL,          -- \xff stands for a byte that isn't UTF-8
    oid        text        NOT NULL,          -- git's name of the content: as long as it stands, nothing is read again
    content    text,                          -- null for a binary or a large file, which is found by its path only
    tsv        tsvector    NOT NULL,          -- the words of path (A) and content, and the parts of its compounds
    indexed_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    PRIMARY KEY (repo_id, path)
);
-- The search walks this.
CREATE INDEX search_files_words ON search_files USING gin (tsv);

-- One row for each maintenance that was done, kept for a year. Sizes in bytes, of all objects on disk.
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
-- Who looks at one repository's record walks this, and each run that takes its old rows away.
CREATE INDEX repo_maintenance_repo ON repo_maintenance (repo, started_at);
