"""A connection to the database, direct or through a pooler, that waits for an answer only as long as it is told to."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.waiting import Wait

from shithubd_worker.database import logins
from shithubd_worker.errors import ShithubdError
from shithubd_worker.host.forks import keep_private, not_the_worker

if TYPE_CHECKING:
    from psycopg.abc import PQGen, PQGenConn
    from psycopg.pq.abc import PGconn

RV = TypeVar("RV")

# How often a command looks up while it waits for an answer, and how long the server has to cancel a statement.
MEANWHILE_SECONDS = 0.25
CALL_OFF_SECONDS = 0.5

# What psycopg says of an error of the socket that comes without a byte to read. libpq does not know of it, and would
# take the connection for a good one.
SOCKET_CLOSED = "connection socket closed"


class ImpatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose calls end with an OperationalError if no answer came within `answer_seconds`, or until
    `answer_by()`. That is a moment of the monotonic clock, and it may move during the call.

    This is for a server that is frozen. Its kernel still acknowledges, so keepalives notice nothing, and the server's
    own timeouts don't run. In a process that was forked from the one that opened the connection, no call is sent.
    """

    prepare_after: int | None = 5  # psycopg's default: prepare a statement that was sent this often
    opening: Sequence[bytes] = ()  # what each transaction begins with
    silence = "no answer from the server"

    def __init__(self, pgconn: PGconn, row_factory: Any = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.answer_seconds: float | None = None
        self.answer_by: Callable[[], float] | None = None
        # For a command: called while no answer comes, with the number of seconds so far. If it raises, the call ends.
        self.meanwhile: Callable[[ImpatientConnection, float], None] | None = None
        self._opened_by = os.getpid()
        keep_private(self)

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        """psycopg's own method, but it keeps the reason if a login was refused."""
        return cls((yield from logins.opened(conninfo)))

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """psycopg's own method, with a limit. After the limit the connection can't be used any more."""
        if os.getpid() != self._opened_by:
            raise not_the_worker("this connection")
        if timeout is not None:  # psycopg's own limit, for example of notifies(timeout=...)
            return super().wait(gen, interval, timeout)
        now = since = time.monotonic()
        resumed = False
        while True:
            by = self._by(since) if self.meanwhile is None else min(self._by(since), now + MEANWHILE_SECONDS)
            try:
                return self._wait(gen, interval, None if by == math.inf else max(0.0, by - now))
            except psycopg.errors._WaitTimeout as error:
                now = time.monotonic()
                if now >= self._by(since):  # the limit may have moved
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"{self.silence} within {now - since:.1f} s") from error
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

    def _wait(self, gen: PQGen[RV], interval: float, timeout: float | None) -> RV:
        """psycopg's own method. After an error of the socket, libpq knows of it, too."""
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError as error:
            if str(error) == SOCKET_CLOSED:
                self.pgconn.finish()
            raise

    def _call_off(self, gen: PQGen[RV], gave_up: BaseException) -> RV:
        """Cancel the statement: the server must not do later what nobody waits for any more. Returns the answer if it
        came at the last moment."""
        try:
            self.cancel_safe(timeout=CALL_OFF_SECONDS)
            return super().wait(gen, 0.1, CALL_OFF_SECONDS)
        except psycopg.errors.QueryCanceled:
            raise gave_up from None
        except (psycopg.Error, psycopg.errors._WaitTimeout):
            self.pgconn.finish()
            gave_up.add_note("the server did not confirm that it gave up, so it may still do what it was asked")
            raise gave_up from None

    def _by(self, since: float) -> float:
        """Until when a call that began at `since` may wait."""
        by = math.inf if self.answer_seconds is None else since + self.answer_seconds
        return by if self.answer_by is None else min(by, self.answer_by())

    def _try_cancel(self, *, timeout: float = 5.0) -> None:
        """psycopg's own method for an interrupted call, but with the limit of a call. If this raises, psycopg closes
        the connection and waits no more."""
        now = time.monotonic()
        by = min(now + timeout, self._by(now))
        self.cancel_safe(timeout=max(0.001, by - now))
        answer = select.poll()  # select() can't take descriptors above 1023
        answer.register(self.pgconn.socket, select.POLLIN)
        # If the server refused the call, everything may be read already, and nothing more comes.
        if self.pgconn.is_busy() and not answer.poll(max(0.0, by - time.monotonic()) * 1000):
            raise psycopg.OperationalError("the server did not cancel the statement in time")

    def close(self) -> None:
        """psycopg's own method. A forked child does nothing: it would say goodbye to the server in the worker's
        name."""
        if os.getpid() == self._opened_by:
            super().close()

    def ask(self, cursor: psycopg.Cursor[Any], query: sql.Composed, arguments: Sequence[object]) -> None:
        """Send one statement, in a transaction of its own if none is open."""
        cursor.execute(query, arguments)


class SharedConnection(ImpatientConnection):
    """A connection through a pooler: each transaction may run in another session, and leaves nothing there. What others
    left there does not count, because each transaction begins with settings of its own."""

    prepare_after = None
    silence = "no answer from the server, or no free connection in its pooler,"

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
        """psycopg's own method, which sends BEGIN itself."""
        outermost = not self._in_transaction
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if outermost:
                self.execute(b"; ".join(self.opening[1:]))
            yield transaction

    def roll_back(self) -> None:
        """Leave a transaction that was sent in one go, and whose COMMIT was skipped after an error."""
        with suppress(psycopg.Error):
            if not self.closed and self._in_transaction:
                self.execute(b"ROLLBACK")

    @property
    def _in_transaction(self) -> bool:
        return self.pgconn.transaction_status != TransactionStatus.IDLE


def _resumable(gen: PQGen[RV]) -> PQGen[RV]:
    """The rest of a wait that was interrupted. A wait of psycopg begins with None, which a generator that sends can't
    use. It then takes what the socket is ready for. It doesn't repeat what the generator waited for, so the first wait
    is for both."""
    waits_for = Wait.RW
    try:
        while True:
            ready = yield waits_for
            if ready is not None:
                waits_for = gen.send(ready)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
