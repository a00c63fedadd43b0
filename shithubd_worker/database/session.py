"""A connection to the database that calls functions of one schema, and what its errors mean."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from shithubd_worker.database import blockers, logins, pooled, sqlstates
from shithubd_worker.database.connection import Connect
from shithubd_worker.database.impatient import ImpatientConnection
from shithubd_worker.database.sqlstates import Meaning
from shithubd_worker.errors import LACKS, ConfigError, DatabaseUnavailable, RightsMissing, SchemaMismatch, ShithubdError

log = logging.getLogger(__name__)

DatabaseError = psycopg.Error


def meaning(error: psycopg.Error) -> Meaning:
    """What an error means for whoever asked."""
    if refusal(error) is not None:
        return Meaning.OURS
    if error.sqlstate is None and not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return Meaning.REFUSED  # psycopg's own word, about what it was given or can't read
    return sqlstates.meaning(error.sqlstate, error.diag.severity_nonlocalized)


def refusal(error: psycopg.Error) -> ShithubdError | None:
    """What to tell if it is a login that is refused for good."""
    return error.told if isinstance(error, logins.LoginRefused) else logins.of_pooler(error)


def lost(error: psycopg.Error) -> bool:
    """Is the connection gone, or this server unable to write?"""
    return meaning(error) is Meaning.LOST


def forbidden(error: psycopg.Error) -> bool:
    """May the role not call this at all? What a trigger refuses, say, inside of a function, is another matter."""
    return isinstance(error, psycopg.errors.InsufficientPrivilege) and not error.diag.context


def in_one_line(error: psycopg.Error) -> str:
    """The first line of what it says."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def explained(error: psycopg.Error) -> ShithubdError:
    """The error of psycopg as one line of ours, with the right exit code."""
    line, text = in_one_line(error), str(error)
    if isinstance(error, pooled.NoSession):
        return ConfigError(line)
    if (told := refusal(error) or pooled.words(line)) is not None:
        return told
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return RightsMissing(f"{LACKS}: {line}")
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return DatabaseUnavailable(f"somebody holds a lock on the queue (see pg_stat_activity): {line}")
    means = meaning(error)
    if means is Meaning.LOST:
        reason = error.diag.message_primary or _last_reason(text)
        return DatabaseUnavailable(f"the database can't be reached: {reason}")
    if means in (Meaning.SHORT, Meaning.PASSING):
        return DatabaseUnavailable(f"the database can't do it now: {line}")
    if isinstance(
        error, (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)
    ):
        return SchemaMismatch(f"the database's schema doesn't fit this release: {line}: run `shithubd-worker migrate`")
    return ShithubdError(f"the database says: {line}")


def _last_reason(text: str) -> str:
    # libpq lists every address that it tried, and psycopg repeats them; the last line that names a reason is enough.
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    return next(
        (line for line in reversed(lines) if "FATAL" in line or "failed" in line),
        lines[-1] if lines else text,
    )


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
