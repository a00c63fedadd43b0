"""A connection to the database, direct or through a pooler, that waits for no answer longer than it is told to."""

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

# How often a command that waits for an answer looks up, and how long the server has to give up what is called off.
MEANWHILE_SECONDS = 0.25
CALL_OFF_SECONDS = 0.5


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
