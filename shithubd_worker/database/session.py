"""A connection to the database that calls functions of one schema."""

from __future__ import annotations

import logging
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
        self.last_word = ""  # what the server said when it ended the last connection, if it did
        self.login_refused: ShithubdError | None = None  # why it could not be opened the last time, if no waiting helps

    @property
    def connection(self) -> ImpatientConnection:
        """The connection, opened if need be. Raises psycopg.OperationalError."""
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
        """Is there a connection that was not found broken?"""
        return self._connection is not None and not self._connection.closed

    def close(self) -> None:
        """Drop the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def heed(self) -> None:
        """Hear what was notified, or that the connection ended, without asking for anything."""
        if self.opened:
            pgconn = self.connection.pgconn
            pgconn.consume_input()
            while notify := pgconn.notifies():
                if pgconn.notify_handler:
                    pgconn.notify_handler(notify)

    def _hear(self, said: psycopg.errors.Diagnostic) -> None:
        # What ends a connection that waits for no answer comes as a notice, and the next call finds it merely closed.
        # That of an immediate shutdown and of another's crash is but a warning; class 57P is the operator's.
        if said.severity_nonlocalized in ("FATAL", "PANIC") or (said.sqlstate or "").startswith("57P"):
            self.last_word = said.message_primary or ""
        elif said.severity_nonlocalized == "WARNING":  # what a function of ours could not do for one row among many
            log.warning("the database: %s", said.message_primary)

    def in_the_way(self, error: psycopg.Error) -> str:
        """In one line why the database refused; of a lock that was waited for in vain, who holds it."""
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
        # On a handler's connection too, whose row factory may be another.
        connection = self.connection
        with connection.cursor(row_factory=tuple_row) as cursor:
            connection.ask(cursor, query, arguments)
            return cursor.fetchall()

    def value(self, function: str, *arguments: object) -> Any:
        """Call a function of the schema that returns one value (None if it returned no row)."""
        rows = self.rows(function, *arguments)
        return rows[0][0] if rows else None
