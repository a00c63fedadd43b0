"""The connection of a Client: its own, or the caller's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations

# How long a call on a connection of our own waits for an answer. A change of a million jobs takes about a minute.
ANSWER_SECONDS = 300.0


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
        # Not the connection's own cursor, which may use other placeholders or make other rows.
        return psycopg.Cursor(self._given, row_factory=tuple_row).execute(query, arguments).fetchall()


def operations_of(database: object, schema: str) -> Operations:
    """Operations on a connection of psycopg's; or on one of their own, to a URL (None: libpq's variables)."""
    if isinstance(database, psycopg.Connection):
        return Borrowed(database, schema)
    if database is None or isinstance(database, str):
        return Operations(
            connector(database, "shithubd-worker client", pooled=True, answer_seconds=ANSWER_SECONDS), schema
        )
    raise TypeError(f"database must be a URL or a psycopg.Connection, not {type(database).__name__}")


@contextmanager
def in_tuples(connection: Any) -> Iterator[Any]:
    """The connection with psycopg's own rows and placeholders. The caller may have set others."""
    usual = connection.row_factory, connection.cursor_factory
    connection.row_factory, connection.cursor_factory = tuple_row, psycopg.Cursor
    try:
        yield connection
    finally:
        connection.row_factory, connection.cursor_factory = usual


def must_commit(operations: Operations, what: str) -> None:
    """Raise RuntimeError inside the caller's transaction: nobody else sees a hold before it is committed."""
    connection = operations.connection
    if not connection.autocommit or connection.info.transaction_status != TransactionStatus.IDLE:
        raise RuntimeError(
            f"{what} is certain only once it is committed: give the Client a URL, or a connection in autocommit mode"
            " that is in no transaction"
        )


def _never() -> NoReturn:
    raise AssertionError("the connection is the caller's")
