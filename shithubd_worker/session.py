"""A connection to the database that calls functions of one schema, and what its errors mean."""

from __future__ import annotations

import logging
import math
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, timeout_from_conninfo
from psycopg.rows import tuple_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.waiting import Wait

from shithubd_worker import blockers, logins, sqlstates
from shithubd_worker.errors import LACKS, DatabaseUnavailable, RightsMissing, SchemaMismatch, ShithubdError
from shithubd_worker.forks import keep_private, not_the_worker
from shithubd_worker.sqlstates import Meaning

if TYPE_CHECKING:
    from psycopg.abc import Buffer, PQGen, PQGenConn
    from psycopg.pq.abc import PGconn

RV = TypeVar("RV")

log = logging.getLogger(__name__)

DatabaseError = psycopg.Error
# Somebody who has locked one job must not keep a worker from the others for long.
LONGEST_LOCK_SECONDS = 3.0

# How often a command that waits for an answer looks up, and how long the server has to give up what is called off.
MEANWHILE_SECONDS = 0.25
CALL_OFF_SECONDS = 0.5

# libpq's own defaults would wait minutes for a host that is gone. A URL or a PG* variable overrides each of these;
# the variable is named where libpq has one.
_SETTINGS: dict[str, tuple[str | None, int]] = {
    "connect_timeout": ("PGCONNECT_TIMEOUT", 2),
    "keepalives_idle": (None, 10),
    "keepalives_interval": (None, 5),
    "keepalives_count": (None, 3),
    "tcp_user_timeout": (None, 15_000),  # milliseconds
}


# A role or a database may have other defaults. The gate needs READ COMMITTED, and psycopg reads times in ISO style. A
# worker at rest is idle for as long as it polls, and how long a call may last is for answer_seconds to say.
_PINNED = (
    "SET default_transaction_isolation = 'read committed'; SET datestyle = 'ISO, YMD'; SET timezone = 'UTC';"
    " SET idle_session_timeout = 0; SET statement_timeout = 0"
)


FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


class TimeLoader(TimestamptzLoader):
    """Reads every time that a table can hold: one before the year 1 or after 9999, or infinite, becomes the first or
    the last that Python knows, as in readable_v1. psycopg would raise, maybe over a change that is committed by then.
    """

    def load(self, data: Buffer) -> datetime:
        """From the text of PostgreSQL."""
        try:
            return super().load(data)
        except psycopg.DataError:
            text = bytes(data)
            first = text.startswith(b"-") or text.endswith(b"BC")
            return FIRST if first else LAST


class ImpatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose calls end with an OperationalError when no answer came within `answer_seconds`, nor until
    `answer_by()`: a moment of the monotonic clock that may move on meanwhile.

    For a server that is frozen: its kernel still acknowledges, so that no keepalive notices, and no timeout of the
    server's own runs. And none goes out from a process that was forked from the one that opened it.
    """

    def __init__(self, pgconn: PGconn, row_factory: Any = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.answer_seconds: float | None = None
        self.answer_by: Callable[[], float] | None = None
        # For a command, while no answer comes: told for how many seconds. What it raises ends the call.
        self.meanwhile: Callable[[ImpatientConnection, float], None] | None = None
        self._opened_by = os.getpid()
        keep_private(self)

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        """As psycopg's own, but that it keeps why a login was refused."""
        return cls((yield from logins.opened(conninfo)))

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's own, with an end; the connection can't be used any more then."""
        if os.getpid() != self._opened_by:
            raise not_the_worker("this connection")
        if timeout is not None:  # psycopg's own, as of notifies(timeout=...)
            return super().wait(gen, interval, timeout)
        now = since = time.monotonic()
        resumed = False
        while True:
            by = self._by(since) if self.meanwhile is None else min(self._by(since), now + MEANWHILE_SECONDS)
            try:
                return super().wait(gen, interval, None if by == math.inf else max(0.0, by - now))
            except psycopg.errors._WaitTimeout as error:
                now = time.monotonic()
                if now >= self._by(since):  # it may have moved on
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer from the server within {now - since:.1f} s") from error
                if not resumed:
                    gen, resumed = _resumable(gen), True
                if self.meanwhile is not None:
                    try:
                        self.meanwhile(self, now - since)
                    except BaseException as gave_up:
                        answer = self._call_off(gen, gave_up)
                        if isinstance(gave_up, ShithubdError):
                            return answer
                        raise

    def _call_off(self, gen: PQGen[RV], gave_up: BaseException) -> RV:
        """The server shall not do later what nobody waits for any more. The answer, if it came in the last moment."""
        try:
            self.cancel_safe(timeout=CALL_OFF_SECONDS)
            return super().wait(gen, 0.1, CALL_OFF_SECONDS)
        except psycopg.errors.QueryCanceled:
            raise gave_up from None
        except (psycopg.Error, psycopg.errors._WaitTimeout):
            self.pgconn.finish()
            gave_up.add_note("nor does the server say that it gave up, so it may still do what it was asked")
            raise gave_up from None

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


def _resumable(gen: PQGen[RV]) -> PQGen[RV]:
    """The rest of what a wait was given up for. psycopg begins each wait with a None, for which one that sends has no
    use; it takes what the socket is ready for. What this one waited for it doesn't say again: so first for either.
    """
    waits_for = Wait.RW
    try:
        while True:
            ready = yield waits_for
            if ready is not None:
                waits_for = gen.send(ready)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]


Connect = Callable[[], ImpatientConnection]


def connector(
    database_url: str | None,
    name: str,
    *,
    pooled: bool = False,
    ours: bool = True,
    answer_seconds: float | None = None,
    meanwhile: Callable[[ImpatientConnection, float], None] | None = None,
    by: float | None = None,
) -> Connect:
    """A function that opens connections in autocommit mode to the database that libpq finds (URL, PG*, service).

    `name` is shown in pg_stat_activity. `pooled` for a pooler in transaction mode: no use of the session.
    `ours`: pin what a role or database may have set otherwise; not for the handlers' own. `answer_seconds`: how long a
    call waits for the server (None: for ever); a wait for a lock ends before that, in the server, so that no backend
    is left waiting behind. `meanwhile`: for a command, which keeps its own time (see ImpatientConnection). `by`: when
    an attempt to connect is to be over, by the monotonic clock, however long the URL or a variable lets it take.
    """
    given = conninfo_to_dict(database_url or "")
    settings: dict[str, Any] = {
        key: value
        for key, (variable, value) in _SETTINGS.items()
        if key not in given and not (variable and variable in os.environ)
    }
    if "application_name" not in given and "PGAPPNAME" not in os.environ:
        settings["application_name"] = name
    pinned = _PINNED
    if answer_seconds is not None:
        pinned += f"; SET lock_timeout = {int(min(answer_seconds * 0.75, LONGEST_LOCK_SECONDS) * 1000)}"

    variables = _variables()

    def connect() -> ImpatientConnection:
        if _variables() != variables:
            _put_back(variables)
        limits = settings
        if by is not None:
            usual = timeout_from_conninfo(conninfo_to_dict(database_url or "", **settings))
            limits = {**settings, "connect_timeout": min(usual, max(1, math.ceil(by - time.monotonic())))}
        with logins.judged():
            connection = ImpatientConnection.connect(
                database_url or "", autocommit=True, client_encoding="UTF8", **limits
            )
        connection.answer_seconds, connection.meanwhile = answer_seconds, meanwhile
        if pooled:
            connection.prepare_threshold = None
        elif ours:
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
    if (told := refusal(error)) is not None:
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
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(query, arguments).fetchall()

    def value(self, function: str, *arguments: object) -> Any:
        """Call a function of the schema that returns one value (None if it returned no row)."""
        rows = self.rows(function, *arguments)
        return rows[0][0] if rows else None
