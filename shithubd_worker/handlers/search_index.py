"""The index of search.reindex in the database: its rows, and the claim of one run on a repository."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from shithubd_worker.errors import NotNow
from shithubd_worker.handlers.git_place import storage
from shithubd_worker.handlers.search_text import path_text, vector

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    from shithubd_worker.handlers.git import Repository
    from shithubd_worker.job import Job

# How long to wait for another run on the same repository. After that the worker goes on to other jobs.
BUSY_MILLISECONDS = 2000
BUSY_AGAIN_SECONDS = 300
BINARY = "binary"


@dataclass(frozen=True, slots=True)
class Base:
    """The index that the run compares with. `generation` is 0 if there is none yet. `exact`: did this release write all
    of it?"""

    id: int = 0
    generation: int = 0
    ref: str = ""
    commit: str = ""
    storage: str = ""
    exact: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """One row of the index. `unread` says why a file has no content, and is found only by its name."""

    path: str
    oid: str
    content: str | None
    unread: str | None = None

    def row(self, repo: int) -> tuple[object, ...]:
        """The parameters of put."""
        words = vector(path_text(self.path), self.content or "")
        return (repo, self.path, self.oid, self.content, self.unread, words)


@dataclass(slots=True)
class Counts:
    """Of a repository: all its files; those found only by their names although they may be text; those left out."""

    files: int = 0
    names_only: int = 0
    left_out: int = 0


def base(job: Job, name: str) -> Base:
    """The index of a repository."""
    row = job.connection.execute(
        _with_tables(
            job.schema,
            "SELECT id, generation, ref, commit, coalesce(storage, '?'), exact_at = generation FROM {repos}"
            " WHERE repo = %s",
        ),
        (name,),
    ).fetchone()
    return Base(*row) if row else Base()


def compare(job: Job, old: Base, changed: dict[str, str], counts: Counts) -> list[str]:
    """Remove from `changed` what the index already has. Returns the paths that only the index has."""
    query = _with_tables(job.schema, "SELECT path, oid, unread FROM {files} WHERE repo_id = %s")
    gone = []
    with job.connection.cursor() as cursor:
        for path, oid, unread in cursor.stream(query, (old.id,)):
            if path not in changed:
                gone.append(path)
            elif changed[path] == oid and old.exact:
                del changed[path]
                counts.names_only += unread not in (None, BINARY)
    return gone


def claim(
    job: Job, connection: psycopg.Connection[Any], repository: Repository, ref: str, commit: str, old: Base
) -> int:
    """Lock the repository's index, and check that it is still `old`. Raises NotNow if another run was faster.

    The row is the lock. The second of two runs waits here for the first one's commit, and then finds another generation
    than the one that it read.
    """
    name = repository.name
    row = _alone(
        connection,
        name,
        _with_tables(
            job.schema,
            "INSERT INTO {repos} AS r (repo, ref, commit, storage, files, generation, exact_at)"
            " VALUES (%s, %s, %s, %s, 0, 1, 1)"
            " ON CONFLICT (repo) DO UPDATE SET ref = excluded.ref, commit = excluded.commit,"
            " storage = excluded.storage, generation = r.generation + 1, exact_at = r.generation + 1,"
            " indexed_at = clock_timestamp() WHERE r.generation = %s RETURNING id, generation",
        ),
        (name, ref, commit, storage(repository.root, repository.path), old.generation),
    )
    if row is None or row[1] != old.generation + 1:  # another generation, or `old` was taken away
        raise NotNow(1, f"the index of {name!r} changed meanwhile: another job indexed it")
    return int(row[0])


def forget(connection: psycopg.Connection[Any], schema: str, name: str, old: Base) -> None:
    """Take away the index of a repository, if it is still `old`."""
    query = _with_tables(schema, "DELETE FROM {repos} WHERE id = %s AND generation = %s RETURNING id")
    if _alone(connection, name, query, (old.id, old.generation)) is None:
        raise NotNow(1, f"the index of {name!r} changed meanwhile: another job indexed it")


def _alone(
    connection: psycopg.Connection[Any], name: str, query: sql.Composed, parameters: tuple[object, ...]
) -> tuple[Any, ...] | None:
    import psycopg
    from psycopg import sql

    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(BUSY_MILLISECONDS))
    try:
        row = connection.execute(query, parameters).fetchone()
    except psycopg.errors.LockNotAvailable:
        raise NotNow(BUSY_AGAIN_SECONDS, f"another job is indexing {name!r}") from None
    connection.execute("SET LOCAL lock_timeout TO DEFAULT")
    return row


def remove(connection: psycopg.Connection[Any], schema: str, repo: int, paths: list[str]) -> None:
    """Take away files."""
    connection.execute(
        _with_tables(schema, "DELETE FROM {files} WHERE repo_id = %s AND path = ANY (%s)"), (repo, paths)
    )


def put(connection: psycopg.Connection[Any], schema: str, repo: int, batch: Iterable[File]) -> None:
    """Write files."""
    query = _with_tables(
        schema,
        "INSERT INTO {files} (repo_id, path, oid, content, unread, tsv)"
        " VALUES (%s, %s, %s, %s, %s, %s::text::pg_catalog.tsvector)"
        " ON CONFLICT (repo_id, path) DO UPDATE SET oid = excluded.oid, content = excluded.content,"
        " unread = excluded.unread, tsv = excluded.tsv, indexed_at = clock_timestamp()",
    )
    with connection.cursor() as cursor:
        cursor.executemany(query, [file.row(repo) for file in batch])


def count(connection: psycopg.Connection[Any], schema: str, repo: int, counts: Counts) -> None:
    """Write how much of the repository is indexed."""
    connection.execute(
        _with_tables(schema, "UPDATE {repos} SET files = %s, names_only = %s, left_out = %s WHERE id = %s"),
        (counts.files, counts.names_only, counts.left_out, repo),
    )


def _with_tables(schema: str, query: LiteralString) -> sql.Composed:
    from psycopg import sql

    return sql.SQL(query).format(
        repos=sql.Identifier(schema, "search_repos"), files=sql.Identifier(schema, "search_files")
    )
