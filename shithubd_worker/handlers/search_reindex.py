"""search.reindex: bring the full-text index of a repository's text files up to date with one of its refs.

The index of a repository shows the ref that was indexed last. A run compares the tree of the ref's commit with the
paths and blobs in the index. It reads only blobs that are new at their path. It never compares commits: after a forced
push the old commit may be gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from shlex import quote
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from shithubd_worker.errors import NotNow, Permanent
from shithubd_worker.handlers import git, git_place, git_refs, search_index
from shithubd_worker.handlers.git_place import MISCONFIGURED_SECONDS, Gone
from shithubd_worker.handlers.search_index import BINARY, Base, Counts, File
from shithubd_worker.handlers.search_text import decode, path_shown

if TYPE_CHECKING:
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
# Why a file is found only by its name.
TOO_LARGE = "larger than 1 MiB"
TOO_MUCH = "the repository has too much text"

_REGULAR = (b"100644", b"100755", b"100664")  # the last one appears in very old trees


def reindex(job: Job, repo: str, ref: str = "HEAD") -> None:
    """The handler. If the repository is gone or has no commits, it takes the repository's index away. Raises Permanent
    for a ref that doesn't exist, and for a repository that is neither there nor in the index."""
    try:
        repository = git.find(job, repo)
        commit = git_refs.commit(job, repository, ref)
    except Gone as error:
        gone = error
    else:
        _index(job, repository, ref, commit)
        return
    _forget(job, gone)


def _index(job: Job, repository: git.Repository, ref: str, commit: str) -> None:
    base = search_index.base(job, repository.name)
    # A renamed repository may leave a link of its old name, and an index of it.
    renamed = search_index.base(job, repository.asked) if repository.asked != repository.name else Base()
    storage = git_place.storage(repository.root, repository.path)
    if base.exact and not renamed.generation and (base.commit, base.ref, base.storage) == (commit, ref, storage):
        job.log.info("index of %s is up to date at %s", repository.name, commit[:12])
        return

    counts = Counts()
    changed = _tree(job, repository, commit, counts)
    gone_paths = search_index.compare(job, base, changed, counts)

    # The handler's own transaction is open while the contents are read; otherwise all of them would be in memory. Only
    # another run on the same repository waits for it. A search meanwhile sees the old index.
    with job.transaction() as connection:
        repo_id = search_index.claim(job, connection, repository, ref, commit, base)
        if renamed.generation:
            search_index.forget(connection, job.schema, repository.asked, renamed)
        search_index.remove(connection, job.schema, repo_id, gone_paths)
        for batch in _batches(_contents(job, repository, changed, counts)):
            search_index.put(connection, job.schema, repo_id, batch)
        search_index.count(connection, job.schema, repo_id, counts)
    job.log.info(
        "indexed %s at %s: %d files, %d read, %d removed",
        repository.name, commit[:12], counts.files, len(changed), len(gone_paths),
    )  # fmt: skip


def _forget(job: Job, gone: Gone) -> None:
    """Take away the index of a repository that was deleted, renamed or emptied."""
    for name, storage in gone.names.items():
        base = search_index.base(job, name)
        if not base.generation:
            continue
        if storage not in (None, base.storage):
            raise NotNow(
                MISCONFIGURED_SECONDS,
                f"{gone}; its disk may be away, so its index stays: mount the disk, or run"
                f" shithubd-worker search forget {quote(name)}",
            )
        with job.transaction() as connection:
            search_index.forget(connection, job.schema, name, base)
        job.log.info("%s: took its index away", gone)
        return
    raise gone from None


# Git's side.


def _tree(job: Job, repository: git.Repository, commit: str, counts: Counts) -> dict[str, str]:
    """Path → blob of every regular file: no symbolic links, no submodules."""
    files = {}
    with git.output(job, repository, "ls-tree", "-r", "-z", "--full-tree", commit) as printed:
        for record in _records(printed, repository):
            facts, _, name = record.partition(b"\t")
            mode, _, oid = facts.split(b" ")
            path = path_shown(name)
            if mode not in _REGULAR:
                continue
            if len(path.encode()) <= LONGEST_PATH_BYTES:
                files[path] = oid.decode()
            else:
                counts.left_out += 1
    if counts.left_out:
        job.log.warning("%s has %d files with too long a path: left out", repository.name, counts.left_out)
    counts.files = len(files)
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


def _contents(job: Job, repository: git.Repository, files: dict[str, str], counts: Counts) -> Iterator[File]:
    """Every file with its content. Each blob is read once, even if it has many paths."""
    paths = defaultdict(list)
    for path, oid in files.items():
        paths[oid].append(path)
    small: list[str] = []
    for oid, size in _sizes(job, repository, paths):
        if size <= LARGEST_FILE:
            small.append(oid)
        else:
            counts.names_only += len(paths[oid])
            yield from (File(path, oid, None, TOO_LARGE) for path in paths[oid])
    read = ("cat-file", "--batch", "--buffer")
    left = MOST_CONTENT
    too_much = 0
    with _asked(small) as stdin, git.output(job, repository, *read, stdin=stdin, seconds=READ_SECONDS) as answers:
        for oid in small:
            content = decode(_blob(answers, oid))
            for path in paths[oid]:
                left -= len(content or "")
                if content is None:
                    yield File(path, oid, None, BINARY)
                elif left >= 0:
                    yield File(path, oid, content)
                else:
                    too_much += 1
                    yield File(path, oid, None, TOO_MUCH)
    counts.names_only += too_much
    if too_much:
        job.log.warning("%s has too much text: %d of its files are found only by name", repository.name, too_much)


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
