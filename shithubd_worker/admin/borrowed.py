"""The connection of a Client: its own, or the caller's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format, PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from shithubd_worker.database import schema as tables
from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations
from shithubd_worker.model import FIRST, LAST

# How long a call on a connection of our own waits for an answer. A change of a million jobs takes about a minute.
ANSWER_SECONDS = 300.0

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class _Time(Loader):
    """A time in PostgreSQL's binary form, which no setting of the session changes. As TimeLoader, it reads all."""

    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        microseconds = int.from_bytes(data, "big", signed=True)
        try:
            return _EPOCH + timedelta(microseconds=microseconds)
        except OverflowError:
            return FIRST if microseconds < 0 else LAST


class _Json(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> Any:
        return json.loads(bytes(data)[1:])  # after the version of the format


class _Plain:
    """The caller's connection, but `execute` gives tuples of Python's own types, and takes psycopg's own placeholders.

    The caller may have set other rows, cursors, loaders (as Django does) or styles of dates. They count for the caller
    alone, also in another thread.
    """

    def __init__(self, given: psycopg.Connection[Any]) -> None:
        self._given = given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._given, name)

    def execute(self, query: Any, arguments: Sequence[object] | None = None) -> psycopg.Cursor[tuple[Any, ...]]:
        """As psycopg.Connection.execute."""
        cursor = psycopg.Cursor(self._given, row_factory=tuple_row)
        cursor.adapters.register_loader("timestamptz", _Time)
        cursor.adapters.register_loader("jsonb", _Json)
        return cursor.execute(query, arguments, binary=True)


class Borrowed(Operations):
    """Operations on the caller's connection, in the caller's transaction. They change no setting of its session."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        super().__init__(_never, schema)
        self._given = connection

    @property
    def connection(self) -> Any:
        """The caller's connection."""
        return self._given

    def ask(self, query: sql.Composed, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        return _Plain(self._given).execute(query, arguments).fetchall()


def operations_of(database: object, schema: str) -> Operations:
    """Operations on a connection of psycopg's; or on one of their own, to a URL (None: libpq's variables)."""
    if isinstance(database, psycopg.Connection):
        return Borrowed(database, schema)
    if database is None or isinstance(database, str):
        return Operations(
            connector(database, "shithubd-worker client", pooled=True, answer_seconds=ANSWER_SECONDS), schema
        )
    raise TypeError(f"database must be a URL or a psycopg.Connection, not {type(database).__name__}")


def check_letters(operations: Operations) -> None:
    """Raise ValueError for a connection that can't send all letters: rows of jobs have any."""
    if (encoding := operations.connection.info.encoding) != "utf-8":
        raise ValueError(f"the connection's client_encoding is {encoding}: use UTF8")


def check_schema(operations: Operations) -> None:
    """Raise SchemaMismatch if this release can't work with the database."""
    connection: Any = operations.connection
    if isinstance(operations, Borrowed):
        connection = _Plain(connection)
    tables.check(connection, operations.schema)


def must_commit(operations: Operations, what: str) -> None:
    """Raise RuntimeError inside the caller's transaction: nobody else sees a hold before it is committed."""
    connection = operations.connection
    idle = connection.info.transaction_status == TransactionStatus.IDLE
    if not (connection.autocommit and idle and connection.pgconn.pipeline_status == PipelineStatus.OFF):
        raise RuntimeError(
            f"{what} is certain only once it is committed: give the Client a URL, or a connection in autocommit mode"
            " that is in no transaction and no pipeline"
        )


def _never() -> NoReturn:
    raise AssertionError("the connection is the caller's")
