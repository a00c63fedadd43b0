"""A connection to the database that calls functions of one schema."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from shithubd_worker.database import blockers, logins
from shithubd_worker.database.connection import Connect
from shithubd_worker.database.failures import explained
from shithubd_worker.database.impatient import ImpatientConnection
from shithubd_worker.errors import ShithubdError

log = logging.getLogger(__name__)


class Session:
    """One connection that calls functions of one schema. For one thread."""

    hears_notices = True

    def __init__(self, connect: Connect, schema: str) -> None:
        self.schema = schema
        self._connect = connect
        self._connection: ImpatientConnection | None = None
        self._queries: dict[tuple[str, int], sql.Composed] = {}
        self.last_word = ""  # what the server said when it ended the last connection, if it said something
        # Why it could not be opened the last time, if waiting does not help.
        self.login_refused: ShithubdError | None = None

    @property
    def connection(self) -> ImpatientConnection:
        """The connection. Opens it if that is needed. Raises psycopg.OperationalError."""
        if self._connection is None or self._connection.closed:
            try:
                self._connection = self._connect()
            except logins.LoginRefused as error:
                self.login_refused = error.told
                raise
            self.login_refused, self.last_word = None, ""
            if self.hears_notices:
                self._connection.add_notice_handler(self._hear)
        return self._connection

    @property
    def opened(self) -> bool:
        """Is there a connection that is not known to be broken?"""
        return self._connection is not None and not self._connection.closed

    def close(self) -> None:
        """Drop the connection. The next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def heed(self) -> None:
        """Read notifications, or that the connection ended, without asking anything."""
        if self.opened:
            pgconn = self.connection.pgconn
            pgconn.consume_input()
            while notify := pgconn.notifies():
                if pgconn.notify_handler:
                    pgconn.notify_handler(notify)

    def _hear(self, said: psycopg.errors.Diagnostic) -> None:
        # If a connection ends while it waits for no answer, the reason comes as a notice, and the next call only finds
        # the connection closed. The reason may be just a warning: after an immediate shutdown, or another backend's
        # crash. Class 57P is the operator's.
        if said.severity_nonlocalized in ("FATAL", "PANIC") or (said.sqlstate or "").startswith("57P"):
            self.last_word = said.message_primary or ""
        elif said.severity_nonlocalized == "WARNING":  # a function of ours could not change one of many rows
            log.warning("the database warns: %s", said.message_primary)

    def in_the_way(self, error: psycopg.Error) -> str:
        """Why the database refused, in one line. After a wait for a lock, it names the holder."""
        if isinstance(error, psycopg.errors.LockNotAvailable) and self.opened:
            with suppress(psycopg.Error):
                if blocker := blockers.on_tables(self.connection, self.schema):
                    return f"waiting for a lock: {blocker}"
        return str(explained(error))

    def rows(self, function: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Call a function of the schema and return its rows."""
        key = (function, len(arguments))
        query = self._queries.get(key)
        if query is None:
            query = self._queries[key] = sql.SQL("SELECT * FROM {}({})").format(
                sql.Identifier(self.schema, function), sql.SQL(", ").join(sql.Placeholder() * len(arguments))
            )
        return self.ask(query, arguments)

    def ask(self, query: sql.Composed, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
        """The rows of one statement, in a transaction of its own."""
        # Also on a handler's connection, whose factories may be others.
        connection = self.connection
        with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            connection.ask(cursor, query, arguments)
            return cursor.fetchall()

    def value(self, function: str, *arguments: object) -> Any:
        """Call a function of the schema that returns one value. None if it returned no row."""
        rows = self.rows(function, *arguments)
        return rows[0][0] if rows else None

    def value_again(self, function: str, *arguments: object) -> Any:
        """The same for a connection that may have been cut since the last call. Then it asks once more, on a new one.

        Only for a function that may run twice: nobody knows whether the server ran the first call.
        """
        used = self.opened
        try:
            return self.value(function, *arguments)
        except psycopg.OperationalError:
            if not used or self.opened:
                raise
        return self.value(function, *arguments)
