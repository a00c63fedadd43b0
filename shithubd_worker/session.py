"""A connection to the database that calls functions of one schema, and what its errors mean."""

from __future__ import annotations

import logging
import math
import os
import re
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from shithubd_worker import pooled as pooler
from shithubd_worker import sqlstates
from shithubd_worker.errors import LACKS, ConfigError, DatabaseUnavailable, RightsMissing, SchemaMismatch, ShithubdError
from shithubd_worker.forks import keep_private, not_the_worker
from shithubd_worker.sqlstates import Meaning

if TYPE_CHECKING:
    from psycopg.abc import Buffer, PQGen
    from psycopg.pq.abc import PGconn

RV = TypeVar("RV")

log = logging.getLogger(__name__)

DatabaseError = psycopg.Error
# Somebody who has locked one job must not keep a worker from the others for long.
LONGEST_LOCK_SECONDS = 3.0

# libpq's own defaults would wait minutes for a host that is gone. A URL or a PG* variable overrides each of these;
# the variable is named where libpq has one.
_SETTINGS: dict[str, tuple[str | None, int]] = {
    "connect_timeout": ("PGCONNECT_TIMEOUT", 2),
    "keepalives_idle": (None, 10),
    "keepalives_interval": (None, 5),
    "keepalives_count": (None, 3),
    "tcp_user_timeout": (None, 15_000),  # milliseconds
}


# A role or a database may have other defaults. The gate needs READ COMMITTED, and times are read in ISO style. A
# worker at rest is idle for as long as it polls, and how long a call may last is for answer_seconds to say. Where the
# session isn't ours each transaction says so for itself: pooled.ours.
_PINNED = (
    "SET default_transaction_isolation = 'read committed'; SET datestyle = 'ISO, YMD'; SET timezone = 'UTC';"
    " SET idle_session_timeout = 0; SET statement_timeout = 0"
)


FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


class TimeLoader(Loader):
    """Reads every time that a table can hold: one before the year 1 or after 9999, or infinite, becomes the first or
    the last that Python knows, as in readable_v1. psycopg would raise, maybe over a change that is committed by then.

    In ISO style, which each of our transactions has. psycopg goes by what the server told last: where the style is set
    for a transaction alone, that may be of after it.
    """

    def load(self, data: Buffer) -> datetime:
        """From the text of PostgreSQL."""
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            first = text.startswith("-") or text.endswith("BC")
            return FIRST if first else LAST


class ImpatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose calls end with an OperationalError when no answer came within `answer_seconds`, nor until
    `answer_by()`: a moment of the monotonic clock that may move on meanwhile.

    For a server that is frozen: its kernel still acknowledges, so that no keepalive notices, and no timeout of the
    server's own runs. And none goes out from a process that was forked from the one that opened it.
    """

    prepare_after: int | None = 5  # times that the same statement was sent; psycopg's own
    opening: Sequence[bytes] = ()  # what each transaction begins with
    silence = "no answer from the server"

    def __init__(self, pgconn: PGconn, row_factory: Any = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.answer_seconds: float | None = None
        self.answer_by: Callable[[], float] | None = None
        self._opened_by = os.getpid()
        keep_private(self)

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's own, with an end; the connection can't be used any more then."""
        if os.getpid() != self._opened_by:
            raise not_the_worker("this connection")
        if timeout is not None:  # psycopg's own, as of notifies(timeout=...)
            return super().wait(gen, interval, timeout)
        now = since = time.monotonic()
        while True:
            by = self._by(since)
            try:
                return super().wait(gen, interval, None if by == math.inf else max(0.0, by - now))
            except psycopg.errors._WaitTimeout as error:
                now = time.monotonic()
                if now >= self._by(since):  # it may have moved on
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"{self.silence} within {now - since:.1f} s") from error

    def _by(self, since: float) -> float:
        """Until when a call that began then may wait."""
        by = math.inf if self.answer_seconds is None else since + self.answer_seconds
        return by if self.answer_by is None else min(by, self.answer_by())

    def _try_cancel(self, *, timeout: float = 5.0) -> None:
        """As psycopg's own, for a call that was interrupted, but no longer than a call may wait. What is raised here
        has psycopg close the connection, and wait no more."""
        now = time.monotonic()
        by = min(now + timeout, self._by(now))
        self.cancel_safe(timeout=max(0.001, by - now))
        answer = select.poll()  # select() knows no descriptor above 1023
        answer.register(self.pgconn.socket, select.POLLIN)
        # Of a call that the server refused all may be read already, and nothing more comes.
        if self.pgconn.is_busy() and not answer.poll(max(0.0, by - time.monotonic()) * 1000):
            raise psycopg.OperationalError("the server doesn't cancel")

    def close(self) -> None:
        """As psycopg's own. In a forked child it would take leave of the server in the worker's name: do nothing."""
        if os.getpid() == self._opened_by:
            super().close()

    def ask(self, cursor: psycopg.Cursor[Any], query: sql.Composed, arguments: Sequence[object]) -> None:
        """One statement, in a transaction of its own if none is open."""
        cursor.execute(query, arguments)


class SharedConnection(ImpatientConnection):
    """One whose every transaction may be in another session of a pooler's, and leaves nothing there. What others left
    there doesn't count, because of how each transaction opens."""

    prepare_after = None
    silence = "no answer from the server, or no connection of its pooler's was free,"

    def __init__(self, pgconn: PGconn, row_factory: Any = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.prepare_threshold = self.prepare_after
        self.isolation_level = psycopg.IsolationLevel.READ_COMMITTED

    def ask(self, cursor: psycopg.Cursor[Any], query: sql.Composed, arguments: Sequence[object]) -> None:
        """As for any connection."""
        with nullcontext() if self._in_transaction else self.transaction():
            cursor.execute(query, arguments)

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[Any]:
        """As psycopg's own, which says BEGIN itself."""
        outermost = not self._in_transaction
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if outermost:
                self.execute(b"; ".join(self.opening[1:]))
            yield transaction

    def roll_back(self) -> None:
        """Leave a transaction that was sent in one go, and whose COMMIT was passed over."""
        with suppress(psycopg.Error):
            if not self.closed and self._in_transaction:
                self.execute(b"ROLLBACK")

    @property
    def _in_transaction(self) -> bool:
        return self.pgconn.transaction_status != TransactionStatus.IDLE


Connect = Callable[[], ImpatientConnection]


def connector(
    database_url: str | None, name: str, *, pooled: bool = False, ours: bool = True, answer_seconds: float | None = None
) -> Connect:
    """A function that opens connections in autocommit mode to the database that libpq finds (URL, PG*, service).

    `name` is shown in pg_stat_activity. `pooled`: make no use of the session, which may be a pooler's; else raises
    NoSession if it is. `ours`: pin what a role or database may have set otherwise; not for the handlers' own.
    `answer_seconds`: how long a call waits for the server (None: for ever); a wait for a lock ends before that, in the
    server, so that no backend is left waiting behind.
    """
    given = conninfo_to_dict(database_url or "")
    settings: dict[str, Any] = {
        key: value
        for key, (variable, value) in _SETTINGS.items()
        if key not in given and not (variable and variable in os.environ)
    }
    if "application_name" not in given and "PGAPPNAME" not in os.environ:
        settings["application_name"] = name
    lock_seconds = None if answer_seconds is None else min(answer_seconds * 0.75, LONGEST_LOCK_SECONDS)
    pinned = _PINNED
    if lock_seconds is not None:
        pinned += f"; SET lock_timeout = {lock_seconds * 1000:.0f}"

    variables = _variables()

    made = SharedConnection if pooled else ImpatientConnection
    settings["prepare_threshold"] = made.prepare_after

    def another(answer_seconds: float | None) -> ImpatientConnection:
        connection = made.connect(database_url or "", autocommit=True, client_encoding="UTF8", **settings)
        connection.answer_seconds = answer_seconds
        return connection

    def connect() -> ImpatientConnection:
        if _variables() != variables:
            _put_back(variables)
        connection = another(answer_seconds)
        if pooled:
            connection.opening = pooler.ours(lock_seconds) if ours else pooler.FOR_HANDLERS
            connection.execute(pooler.MAY_WRITE_AGAIN)
        elif ours:
            pooler.check_own(connection, another)
            connection.execute(pinned.encode())
        if ours:
            connection.adapters.register_loader("timestamptz", TimeLoader)
        return connection

    return connect


def _variables() -> dict[str, str]:
    """The environment that libpq reads."""
    return {name: value for name, value in os.environ.items() if name.startswith("PG")}


def _put_back(variables: dict[str, str]) -> None:
    """A handler has changed it, for a child perhaps: the worker itself must not connect to another database."""
    now = _variables()
    names = sorted(name for name in {*now, *variables} if now.get(name) != variables.get(name))
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(variables)
    log.warning("a handler changed %s, which the worker connects with: put back", ", ".join(names))


def meaning(error: psycopg.Error) -> Meaning:
    """What an error means for whoever asked."""
    if error.sqlstate is None and not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return Meaning.REFUSED  # psycopg's own word, about what it was given or can't read
    return sqlstates.meaning(error.sqlstate, error.diag.severity_nonlocalized)


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
    rights = "password authentication failed|no password supplied|no pg_hba.conf entry|role .* (does not exist|is not)"
    if isinstance(error, pooler.NoSession):
        return ConfigError(line)
    if (told := pooler.words(line)) is not None:
        return told
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return RightsMissing(f"{LACKS}: {line}")
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None and re.search(rights, text):
        return RightsMissing(f"the database refuses this login: {_last_reason(text)}")
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

    @property
    def connection(self) -> ImpatientConnection:
        """The connection, opened if need be. Raises psycopg.OperationalError."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
            self.last_word = ""
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
