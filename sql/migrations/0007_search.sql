-- expand
-- The index of search.reindex keeps each word of a file once, and says what it doesn't keep.

ALTER TABLE search_repos
    -- Equal to generation if this release wrote the whole index. If not, the next run writes all of it again.
    ADD COLUMN exact_at   bigint  NOT NULL DEFAULT 0,
    ADD COLUMN names_only integer NOT NULL DEFAULT 0,  -- files that may be text, but are found only by their names
    ADD COLUMN left_out   integer NOT NULL DEFAULT 0,  -- files with too long a path for the index
    -- Where the file system of the repository is mounted, relative to the root. An index is taken away only if this is still so.
    ADD COLUMN storage    text;

-- tsv has no places of words. Its weights: A in the path; B and C often in the content. '*': not all words are here.
ALTER TABLE search_files
    ADD COLUMN unread text;  -- why content is null
