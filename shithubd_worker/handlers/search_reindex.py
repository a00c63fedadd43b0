"""search.reindex: bring the full-text index of a repository's text files up to date with one of its refs.

The index of a repository shows the ref that was indexed last. A run compares the tree of the ref's commit with the
paths and blobs in the index. It reads only blobs that are new at their path. It never compares commits: after a forced
push the old commit may be gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from shithubd_worker.errors import NotNow, Permanent
from shithubd_worker.handlers import git
from shithubd_worker.handlers.search_text import decode, document

if TYPE_CHECKING:
    import psycopg

    from shithubd_worker.job import Job

# Larger files are data or generated. Like a binary file, such a file is found only by its name.
LARGEST_FILE = 1024 * 1024
# Contents are written in batches. At most this many bytes of them, and one file, are in memory at a time.
BATCH_BYTES = 2 * 1024 * 1024
BATCH_FILES = 500
# An index row of PostgreSQL holds about 2,700 bytes. A file with a longer path is left out.
LONGEST_PATH_BYTES = 2000
# What one repository may list, in bytes as git prints it: some 600,000 files. A repository of a few hundred bytes can
# list any number, because a tree can contain another tree many times. The list is in memory, at three times its size.
MOST_LISTED = 64 * 1024 * 1024
LONGEST_RECORD = 65_536  # nobody uses a name of this length in earnest
# How many characters of contents one run may write. A small repository can exceed this as well, because one blob can
# have any number of paths. The files beyond the limit are found only by their names.
MOST_CONTENT = 4 * 1024 * 1024 * 1024
LONGEST_HEADER = 200
# Git waits while contents are written into the database. So it may take nearly as long as the job itself.
READ_SECONDS = 3000.0
# How long to wait for another run on the same repository. After that the worker goes on to other jobs.
BUSY_MILLISECONDS = 2000
BUSY_AGAIN_SECONDS = 300

_REGULAR = (b"100644", b"100755", b"100664")  # the last one appears in very old trees


@dataclass(frozen=True, slots=True)
class Base:
    """The index that the run compares with. `generation` is 0 if there is none yet."""

    id: int
    generation: int
    ref: str
    commit: str


@dataclass(frozen=True, slots=True)
class File:
    """One row of the index. `content` is None for a file that is found only by its name."""

    path: str
    oid: str
    content: str | None

    def row(self, repo: int) -> tuple[object, ...]:
        """The parameters of _PUT."""
        names, name_parts = document(self.path)
        words, parts = document(self.content or "")
        return (repo, self.path, self.oid, self.content, f"{names} {name_parts}", words, parts)


def reindex(job: Job, repo: str, ref: str = "HEAD") -> None:
    """The handler. Raises Permanent for a repository or a ref that doesn't exist, and for an empty repository."""
    repository = git.find(job, repo)
    commit = _commit(job, repository, ref)
    base = _base(job, repository.name)
    if (base.commit, base.ref) == (commit, ref):
        job.log.info("index of %s is up to date at %s", repository.name, commit[:12])
        return

    changed = _tree(job, repository, commit)
    total = len(changed)
    gone = _compare(job, base, changed)

    # The handler's own transaction is open while the contents are read; otherwise all of them would be in memory. Only
    # another run on the same repository waits for it. A search meanwhile sees the old index.
    with job.transaction() as connection:
        repo_id = _claim(connection, job.schema, repository.name, ref, commit, base, total)
        _remove(connection, job.schema, repo_id, gone)
        for batch in _batches(_contents(job, repository, changed)):
            _put(connection, job.schema, repo_id, batch)
    job.log.info(
        "indexed %s at %s: %d files, %d read, %d removed", repository.name, commit[:12], total, len(changed), len(gone)
    )


# Git's side.


def _commit(job: Job, repository: git.Repository, ref: object) -> str:
    if not isinstance(ref, str) or not 0 < len(ref) <= git.LONGEST_NAME or "\x00" in ref:
        raise Permanent(f"ref must be a text of 1 to {git.LONGEST_NAME} characters")
    try:
        found = git.run(job, repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except git.GitFailed as error:
        if error.status < 0:
            raise
        if not git.run(job, repository, "for-each-ref", "--count=1"):
            raise Permanent(f"repository {repository.name!r} is empty: it has no commits to index") from None
        raise Permanent(f"ref {ref!r} is not a commit of repository {repository.name!r}") from None
    return found.decode().strip()


def _tree(job: Job, repository: git.Repository, commit: str) -> dict[str, str]:
    """Path → blob of every regular file: no symbolic links, no submodules."""
    files = {}
    with git.output(job, repository, "ls-tree", "-r", "-z", "--full-tree", commit) as printed:
        for record in _records(printed, repository):
            facts, _, name = record.partition(b"\t")
            mode, _, oid = facts.split(b" ")
            # A name that isn't UTF-8 is shown with \xff for its odd bytes, as other programs show it.
            path = name.decode(errors="backslashreplace")
            if mode in _REGULAR and len(path.encode()) <= LONGEST_PATH_BYTES:
                files[path] = oid.decode()
    return files


def _records(stream: IO[bytes], repository: git.Repository) -> Iterator[bytes]:
    rest = b""
    listed = 0
    while chunk := stream.read(65536):
        listed += len(chunk)
        if listed > MOST_LISTED or len(rest) > LONGEST_RECORD:
            raise Permanent(f"repository {repository.name!r} has more files than can be indexed")
        *records, rest = (rest + chunk).split(b"\x00")
        yield from records


def _contents(job: Job, repository: git.Repository, files: dict[str, str]) -> Iterator[File]:
    """Every file with its content. Each blob is read once, even if it has many paths."""
    paths = defaultdict(list)
    for path, oid in files.items():
        paths[oid].append(path)
    small: list[str] = []
    for oid, size in _sizes(job, repository, paths):
        if size <= LARGEST_FILE:
            small.append(oid)
        else:
            yield from (File(path, oid, None) for path in paths[oid])
    read = ("cat-file", "--batch", "--buffer")
    left = MOST_CONTENT
    with _asked(small) as stdin, git.output(job, repository, *read, stdin=stdin, seconds=READ_SECONDS) as answers:
        for oid in small:
            content = decode(_blob(answers, oid))
            for path in paths[oid]:
                left -= len(content or "")
                yield File(path, oid, content if left >= 0 else None)
    if left < 0:
        job.log.warning("%s has too much text: some of its files are found by their names only", repository.name)


def _sizes(job: Job, repository: git.Repository, oids: Iterable[str]) -> Iterator[tuple[str, int]]:
    # The size is asked first, so that no large blob goes through the pipe in vain.
    with _asked(oids) as stdin, git.output(job, repository, "cat-file", "--batch-check", stdin=stdin) as answers:
        for oid in oids:
            yield oid, _header(answers, oid)


def _asked(oids: Iterable[str]) -> IO[bytes]:
    # A file instead of a pipe: with a pipe, git could block on an answer that nobody reads while this side blocks on a
    # question.
    questions = TemporaryFile()  # noqa: SIM115 (the caller closes it)
    questions.writelines(f"{oid}\n".encode() for oid in oids)
    questions.seek(0)
    return questions


def _blob(answers: IO[bytes], oid: str) -> bytes:
    size = _header(answers, oid)
    return answers.read(size + 1)[:size]  # a line feed follows


def _header(answers: IO[bytes], oid: str) -> int:
    header = answers.readline(LONGEST_HEADER).split()
    if len(header) != 3 or header[1] != b"blob":  # noqa: PLR2004
        raise git.GitFailed(f"blob {oid} can't be read ({b' '.join(header).decode() or 'git ended'})", 0)
    return int(header[2])


# The database's side.


def _base(job: Job, name: str) -> Base:
    from psycopg import sql

    row = job.connection.execute(
        sql.SQL("SELECT id, generation, ref, commit FROM {} WHERE repo = %s").format(
            sql.Identifier(job.schema, "search_repos")
        ),
        (name,),
    ).fetchone()
    return Base(*row) if row else Base(0, 0, "", "")


def _compare(job: Job, base: Base, changed: dict[str, str]) -> list[str]:
    """Remove from `changed` what the index already has. Returns the paths that only the index has."""
    from psycopg import sql

    query = sql.SQL("SELECT path, oid FROM {} WHERE repo_id = %s").format(sql.Identifier(job.schema, "search_files"))
    gone = []
    with job.connection.cursor() as cursor:
        for path, oid in cursor.stream(query, (base.id,)):
            if path not in changed:
                gone.append(path)
            elif changed[path] == oid:
                del changed[path]
    return gone


def _claim(
    connection: psycopg.Connection[Any], schema: str, name: str, ref: str, commit: str, base: Base, files: int
) -> int:
    """Lock the repository's index, and check that it is still `base`. Raises NotNow if another run was faster.

    The row is the lock. The second of two runs waits here for the first one's commit, and then finds another generation
    than the one that it read.
    """
    import psycopg
    from psycopg import sql

    query = sql.SQL(
        "INSERT INTO {} AS r (repo, ref, commit, files, generation) VALUES (%s, %s, %s, %s, 1)"
        " ON CONFLICT (repo) DO UPDATE SET ref = excluded.ref, commit = excluded.commit, files = excluded.files,"
        " generation = r.generation + 1, indexed_at = clock_timestamp() WHERE r.generation = %s RETURNING id"
    ).format(sql.Identifier(schema, "search_repos"))
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(BUSY_MILLISECONDS))
    try:
        row = connection.execute(query, (name, ref, commit, files, base.generation)).fetchone()
    except psycopg.errors.LockNotAvailable:
        raise NotNow(BUSY_AGAIN_SECONDS, f"another job is indexing {name!r}") from None
    if row is None:
        raise NotNow(1, f"the index of {name!r} changed meanwhile: another job indexed it")
    connection.execute("SET LOCAL lock_timeout TO DEFAULT")
    return int(row[0])


def _remove(connection: psycopg.Connection[Any], schema: str, repo: int, paths: list[str]) -> None:
    from psycopg import sql

    files = sql.Identifier(schema, "search_files")
    connection.execute(sql.SQL("DELETE FROM {} WHERE repo_id = %s AND path = ANY (%s)").format(files), (repo, paths))


def _put(connection: psycopg.Connection[Any], schema: str, repo: int, batch: list[File]) -> None:
    from psycopg import sql

    put = sql.SQL(
        "INSERT INTO {} (repo_id, path, oid, content, tsv) VALUES (%s, %s, %s, %s,"
        " pg_catalog.setweight(pg_catalog.to_tsvector('pg_catalog.simple', %s), 'A')"
        " || pg_catalog.to_tsvector('pg_catalog.simple', %s) || pg_catalog.to_tsvector('pg_catalog.simple', %s))"
        " ON CONFLICT (repo_id, path) DO UPDATE"
        " SET oid = excluded.oid, content = excluded.content, tsv = excluded.tsv, indexed_at = clock_timestamp()"
    ).format(sql.Identifier(schema, "search_files"))
    with connection.cursor() as cursor:
        cursor.executemany(put, [file.row(repo) for file in batch])


def _batches(files: Iterable[File]) -> Iterator[list[File]]:
    batch: list[File] = []
    size = 0
    for file in files:
        batch.append(file)
        size += len(file.content or "")
        if size >= BATCH_BYTES or len(batch) >= BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
