"""Enqueueing from Python. Any other program uses `INSERT INTO jobs (kind, payload) VALUES (…)`.

A statement that PostgreSQL refuses aborts the caller's transaction. So each argument is checked before anything is
sent. Whether there is a queue, and whether the login may write to it, only the database knows: the first enqueue on a
connection asks. Each later one is a single statement.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, LiteralString
from weakref import WeakKeyDictionary

from shithubd_worker import payload
from shithubd_worker.errors import LACKS, RightsMissing, SchemaMismatch
from shithubd_worker.options import checked
from shithubd_worker.plain import json_in_ascii
from shithubd_worker.settings.config import SCHEMA, schema_fault

if TYPE_CHECKING:
    import psycopg

MOST_JOBS, MOST_LETTERS = 10_000, 16 * 1024 * 1024  # of one statement of enqueue_many

# Do the functions of schema n look for their tables in another schema? So it is after ALTER SCHEMA ... RENAME.
MADE_ELSEWHERE: LiteralString = (
    "(SELECT NOT pg_catalog.bool_or(coalesce(p.proconfig, '{}') OPERATOR(pg_catalog.@>)"
    " ARRAY[pg_catalog.format('search_path=%%I, pg_temp', n.nspname)])"
    " FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'show_job_v1')"
)

# The schemas whose queue a connection could write to when it asked.
_asked: WeakKeyDictionary[psycopg.Connection[Any], set[str]] = WeakKeyDictionary()


def enqueue(
    connection: psycopg.Connection[Any],
    kind: str,
    /,
    *,
    delay: float | timedelta | None = None,
    run_at: datetime | None = None,
    priority: int = 0,
    max_attempts: int | None = None,
    schema: str | None = None,
    **members: object,
) -> int:
    """Add a job in the caller's transaction, and return its id. The job exists once that transaction commits.

    - `members` are the payload, so they become the handler's keyword arguments.
    - `delay` is in seconds (or a timedelta), counted by the database's clock. In its place `run_at` gives an aware
      datetime.
    - `priority`: within a kind, a lower number runs first.
    - `max_attempts`: None means the kind's value.
    - `schema`: where the queue is. None means SHITHUBD_WORKER_SCHEMA, or `public`.

    Raises TypeError or ValueError for an argument that can't work, and SchemaMismatch or RightsMissing (of
    shithubd_worker.errors) if there is no queue or the login may not write to it. All of these leave the caller's
    transaction usable. An example:

        with connection.transaction():
            number = enqueue(connection, "stars.add", repo="ada/engine", stars=2, delay=60)
        print(f"job {number} waits for a minute")
    """
    options = checked(kind, delay, run_at, priority, max_attempts)
    text = payload.payload_text(members)
    queue = _asked_before(connection, schema, kind)
    try:
        return insert(connection, queue, kind, text, *options)
    except Exception:
        _ask_again(connection)
        raise


def enqueue_many(
    connection: psycopg.Connection[Any],
    kind: str,
    payloads: Iterable[Mapping[str, object]],
    /,
    *,
    delay: float | timedelta | None = None,
    run_at: datetime | None = None,
    priority: int = 0,
    max_attempts: int | None = None,
    schema: str | None = None,
) -> list[int]:
    """Add a job for each payload, all in the caller's transaction. Returns their ids in the same order.

    The arguments and errors are those of `enqueue`. All payloads are checked before anything is sent.
    """
    options = checked(kind, delay, run_at, priority, max_attempts)
    texts = [payload.payload_text(_members(each)) for each in payloads]
    queue = _asked_before(connection, schema, kind)
    ids: list[int] = []
    try:
        with connection.transaction():
            for begin, end in _portions(texts):
                ids += _insert_many(connection, queue, kind, texts[begin:end], *options)
    except Exception:
        _ask_again(connection)
        raise
    return ids


def insert(
    connection: psycopg.Connection[Any],
    schema: str,
    kind: str,
    payload_text: str,
    delay: float = 0.0,
    run_at: datetime | None = None,
    priority: int = 0,
    max_attempts: int | None = None,
) -> int:
    """The INSERT that enqueues, with checked values. `delay` (seconds) counts only without `run_at`. Returns the id."""
    encoding = connection.info.encoding
    if encoding != "utf-8":
        payload_text = json_in_ascii(payload_text)
    query = _insert_into(schema, encoding)
    row = _cursor(connection).execute(query, (kind, payload_text, priority, max_attempts, run_at, delay)).fetchone()
    if row is None:  # a trigger of the application dropped the row
        raise RuntimeError("the database returned no id: a trigger on jobs dropped the row")
    return int(row[0])


def _insert_many(
    connection: psycopg.Connection[Any],
    schema: str,
    kind: str,
    texts: list[str],
    delay: float,
    run_at: datetime | None,
    priority: int,
    max_attempts: int | None,
) -> list[int]:
    encoding = connection.info.encoding
    if encoding != "utf-8":
        texts = [json_in_ascii(text) for text in texts]
    query = (
        f"INSERT INTO {_quoted(schema)}.jobs (kind, payload, priority, max_attempts, run_at)"  # noqa: S608
        " SELECT %s, t.payload::jsonb, %s, %s, coalesce(%s::timestamptz,"
        " now() + pg_catalog.make_interval(secs => %s::double precision))"
        " FROM unnest(%s::text[]) WITH ORDINALITY t (payload, n) ORDER BY t.n RETURNING id"
    ).encode(encoding)
    values = (kind, priority, max_attempts, run_at, delay, texts)
    ids = [int(job) for (job,) in _cursor(connection).execute(query, values)]
    if len(ids) != len(texts):
        raise RuntimeError(
            f"the database returned {len(ids)} ids for {len(texts)} jobs: a trigger on jobs dropped rows"
        )
    return ids


def _members(given: Mapping[str, object]) -> dict[str, object]:
    if not isinstance(given, Mapping):
        raise TypeError(f"a payload must be a mapping, not {type(given).__name__}")
    members = dict(given)
    for name in members:
        if not isinstance(name, str):
            raise TypeError(f"a name in a payload must be a string, not {type(name).__name__}")
        if name in payload.RESERVED:
            raise TypeError(f"a payload can't have {name!r}: it is an argument of enqueue, and no handler can take it")
    return members


def _portions(texts: list[str]) -> Iterator[tuple[int, int]]:
    """Where each statement begins and ends. No statement has many letters or jobs."""
    begin, letters = 0, 0
    for n, text in enumerate(texts):
        if n > begin and (letters + len(text) > MOST_LETTERS or n - begin >= MOST_JOBS):
            yield begin, n
            begin, letters = n, 0
        letters += len(text)
    if texts:
        yield begin, len(texts)


def queues(connection: psycopg.Connection[Any]) -> list[str]:
    """The schemas of this database that have a queue."""
    rows = _cursor(connection).execute(
        "SELECT n.nspname::text FROM pg_catalog.pg_namespace n WHERE 2 = (SELECT pg_catalog.count(*)::int"
        " FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relname IN ('jobs', 'worker_schema')"
        " AND c.relkind = 'r') ORDER BY 1"
    )
    return [str(name) for (name,) in rows]


def _cursor(connection: psycopg.Connection[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
    """A cursor of psycopg's own. The connection's may use other placeholders, or make other rows."""
    import psycopg
    from psycopg.rows import tuple_row

    return psycopg.Cursor(connection, row_factory=tuple_row)


@lru_cache
def _insert_into(schema: str, encoding: str) -> bytes:
    return (
        f"INSERT INTO {_quoted(schema)}.jobs (kind, payload, priority, max_attempts, run_at)"  # noqa: S608
        " VALUES (%s, %s::jsonb, %s, %s, coalesce(%s::timestamptz,"
        " now() + pg_catalog.make_interval(secs => %s::double precision))) RETURNING id"
    ).encode(encoding)


def _ask(connection: psycopg.Connection[Any], schema: str) -> None:
    """Raise SchemaMismatch or RightsMissing if the login can't enqueue in this schema."""
    query: LiteralString = (
        "SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.bool_and("  # noqa: S608
        "pg_catalog.has_column_privilege(c.oid, a.attnum, CASE a.attname WHEN 'id' THEN 'SELECT' ELSE 'INSERT' END)),"
        " pg_catalog.count(*)::int, current_user::text, pg_catalog.pg_get_userbyid(c.relowner)::text, "
        + MADE_ELSEWHERE
        + " FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid"
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid WHERE n.nspname = %s::text::name AND c.relname = 'jobs'"
        " AND a.attname IN ('id', 'kind', 'payload', 'priority', 'max_attempts', 'run_at')"
        " GROUP BY n.oid, n.nspname, c.oid, c.relowner"
    )
    row = _cursor(connection).execute(query, (schema,)).fetchone()
    if row is None or row[1] != 6:  # noqa: PLR2004 (the columns above)
        raise SchemaMismatch(f"{no_queue(connection, schema)}: give schema=…, or set {SCHEMA.variable}")
    if row[4]:
        raise SchemaMismatch(made_elsewhere(schema))
    if not row[0]:
        user, owner = _quoted(row[2]), row[3]
        who, grant = "a superuser", f"GRANT shithub_enqueue TO {user}"
        if owner != "shithub_owner":  # without `migrate --roles`, the roles have no rights
            who, grant = (
                f"its owner {owner!r}",
                (
                    f"GRANT USAGE ON SCHEMA {_quoted(schema)} TO {user}; GRANT INSERT (kind, payload, priority, run_at,"
                    f" max_attempts), SELECT (id) ON {_quoted(schema)}.jobs TO {user}"
                ),
            )
        raise RightsMissing(f"{LACKS}: {row[2]!r} may not enqueue in schema {schema!r}. As {who}: {grant}")


def made_elsewhere(schema: str) -> str:
    """Says that the schema was renamed."""
    return f"schema {schema!r} had another name when its functions were made: run `shithubd-worker migrate`"


def no_queue(connection: psycopg.Connection[Any], schema: str) -> str:
    """Says that the schema has no queue, and which schema has one."""
    others = ", ".join(map(repr, queues(connection)))
    elsewhere = f", but schema {others} has one" if others else ""
    return f"schema {schema!r} of database {connection.info.dbname!r} has no queue{elsewhere}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _asked_before(connection: psycopg.Connection[Any], schema: str | None, kind: str) -> str:
    """The name of the queue's schema. The connection has been asked whether the login can enqueue there."""
    import psycopg

    queue = queue_name(schema)
    if not isinstance(connection, psycopg.Connection):
        raise TypeError(
            f"connection must be a psycopg.Connection, not {type(connection).__name__}: give the connection that your"
            " pool or framework keeps inside. An async program executes the INSERT itself (docs/sql.md)"
        )
    if (encoding := connection.info.encoding) != "utf-8":
        _check_letters(encoding, kind, queue)
    asked = _asked.get(connection)
    if asked is None or queue not in asked:
        _ask(connection, queue)
        _asked.setdefault(connection, set()).add(queue)
    return queue


def _ask_again(connection: psycopg.Connection[Any]) -> None:
    """After an error: perhaps the schema was renamed, or the right taken."""
    _asked.pop(connection, None)


def queue_name(schema: str | None) -> str:
    """The queue's schema: this one, or that of SHITHUBD_WORKER_SCHEMA, or `public`. Raises TypeError or ValueError."""
    name = os.environ.get(SCHEMA.variable, SCHEMA.default) if schema is None else schema
    if not isinstance(name, str):
        raise TypeError(f"schema must be a string, not {type(name).__name__}")
    if fault := schema_fault(name):
        raise ValueError(fault if schema is not None else f"{SCHEMA.variable}: {fault}")
    return name


def _check_letters(encoding: str, *names: str) -> None:
    for name in names:
        try:
            name.encode(encoding)
        except UnicodeEncodeError as error:
            raise ValueError(f"the connection's client_encoding ({encoding}) can't send {name!r}: use UTF8") from error
