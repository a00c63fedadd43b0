"""Calling the database: one method here, one function of sql/functions there; rows become types at the door."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg
from psycopg import generators, sql, waiting
from psycopg.pq import ExecStatus, TransactionStatus

from shithubd_worker import __version__, history, rights
from shithubd_worker.arrays import as_array, settle_arguments
from shithubd_worker.clock import Clock
from shithubd_worker.connection import Connect, ImpatientConnection
from shithubd_worker.model import Finished, Hold, Identity, Lease, Outcome
from shithubd_worker.schema import newest_version
from shithubd_worker.session import Session

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

# What DISCARD ALL does, and the role that a login may begin with. The plans stay: nobody can see them, and that of the
# settle is wanted again. DISCARD ALL itself must be sent alone, and this is one round trip.
_FORGET = (
    b"CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *;"
    b" SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; DEALLOCATE ALL"
)


# No outcome of an attempt, but counted beside them: see Beat.count_ended.
FORCED = "forced"
# Expired leases that one sweep returns.
MOST_SWEPT = 2000


class Settling(Session):
    """What both threads of a worker ask: settle, and what became of a settle."""

    def settle(self, finished: Sequence[Finished]) -> tuple[set[int], set[int]]:
        """End leases, waiting for nobody. The ids of those that were lost, and of those that somebody has locked: for
        them nothing was written."""
        rows = self.rows("settle_soon_v1", *settle_arguments(finished))
        return {job for job, locked in rows if not locked}, {job for job, locked in rows if locked}

    def fate(self, lease: Lease) -> str | None:
        """What became of a lease whose settle got no answer: leased, the outcome that ended it, or None if unknown."""
        fate = self.value("lease_fate_v1", lease.id, lease.token)
        return None if fate is None else str(fate)


class Queue(Settling):
    """What the main thread of a worker asks: lease, start, settle, sweep."""

    def __init__(self, connect: Connect, schema: str, worker: UUID) -> None:
        super().__init__(connect, schema)
        self._worker = worker
        self._on_notify: Callable[[str], None] | None = None

    @property
    def connection(self) -> ImpatientConnection:
        """The connection; one that is opened anew, whoever noticed that the last one broke, listens too."""
        opened = self.opened
        connection = super().connection
        if not opened:
            try:
                self._listen(connection)
            except BaseException:
                self.close()  # or the next call would take it for one that listens
                raise
        return connection

    def listen(self, on_notify: Callable[[str], None]) -> None:
        """Be told, from now on, when jobs became runnable: `anew` if a scan from the start may be needed."""
        self._on_notify = on_notify
        self.close()
        _ = self.connection  # opens it

    def _listen(self, connection: psycopg.Connection) -> None:
        if (on_notify := self._on_notify) is not None:
            channel = self.value("channel_v1")
            connection.add_notify_handler(lambda notify: on_notify(notify.payload))
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    def start(self, leases: Sequence[Lease], token: str, timeouts: Sequence[float]) -> list[Lease]:
        """One more look at the holds for leases of one batch: those that may start, renewed under a new token."""
        sent_at = time.monotonic()
        ids = [lease.id for lease in leases]
        rows = self.rows("start_v1", self._worker, ids, leases[0].token, token, list(timeouts))
        granted = {job for (job,) in rows}
        batch = leases[0].batch._replace(token=token, sent_at=sent_at, again=True)
        return [lease._replace(batch=batch) for lease in leases if lease.id in granted]

    def payloads(self, leases: Sequence[Lease]) -> dict[int, tuple[str | None, str | None]]:
        """The payloads, by job, that were left out of the answer to the lease of one batch, and what is wrong with
        each: the first job's unless its lease is lost, and as many more as are worth their memory."""
        rows = self.rows("payloads_v1", as_array([str(lease.id) for lease in leases]), leases[0].token)
        return {job: (payload, fault) for job, payload, fault in rows}

    def kind_holds(self) -> list[Hold]:
        """The pauses of kinds that stand now."""
        return [Hold("kind", target, reason, actor) for target, reason, actor in self.rows("pauses_v1")]

    def sweep(
        self,
        *,
        back: float | None = None,
        strays: Sequence[str] = (),
        earliest: float | None = None,
        timeouts: Mapping[str, float] | None = None,
    ) -> list[tuple[int, str, str]]:
        """Put right what nobody else will (sweep_v1), between two jobs: (id, kind, outcome) of each job touched."""
        kinds = dict(timeouts or {})
        rows = self.rows(
            "sweep_v1", self._worker, back, as_array(strays), MOST_SWEPT, earliest, list(kinds), list(kinds.values())
        )
        return [(job, kind, how) for job, kind, how in rows]

    def housekeep(self, *, drop: bool = True) -> list[str]:
        """Make the history's next days, forget dead workers, and drop the days that are over. Returns what was done.

        Each step gives up after a second of waiting for a reader and is taken up the next time.
        """
        try:
            self.value("ensure_history_v1")
            self.value("forget_workers_v1")
        except psycopg.errors.LockNotAvailable:
            return [f"put off: {history.READER}"]
        if not drop:
            return []
        days, put_off = history.drop(self, f"worker {socket.gethostname()}:{os.getpid()}")
        return [*(f"dropped {day}" for day in days), *([f"put off: {put_off}"] if put_off else [])]

    @property
    def may_drop(self) -> bool:
        """Does the login own the history, so that it may drop days of it?"""
        with rights.in_pg_catalog(self.connection):
            return rights.owns(self.connection, self.schema)


class Beat(Settling):
    """What the control thread of a worker asks: register, beat, renew; and how it settles when it ends the process."""

    def register(self, identity: Identity, kinds: Sequence[str]) -> None:
        """Write the worker's row."""
        who = asdict(identity)
        self.rows("register_v1", *who.values(), __version__, newest_version(), list(kinds))

    def beat(
        self,
        worker: UUID,
        state: str,
        job: int | None,
        kind: str | None,
        running: float | None,
        unsettled: Sequence[int] = (),
        *,
        otherwise: list[Hold] | None = None,
    ) -> list[Hold] | None:
        """Say that the worker lives, and which jobs that it has finished are still to be settled; learn which drains
        cover it: `otherwise`, if somebody's lock keeps it from looking. None if its row is gone."""
        holds = self.value("beat_v1", worker, state, job, kind, running, as_array([str(job) for job in unsettled]))
        if holds is False:
            return otherwise or []
        return None if holds is None else [Hold(**hold) for hold in holds]

    def renew(self, lease: Lease, timeout: float) -> bool:
        """Move the lease's expiry to `timeout` seconds from now. False if it was lost."""
        return bool(self.value("renew_v1", lease.id, lease.token, timeout))

    def release_strays(self, worker: UUID, token: str) -> list[tuple[int, str]]:
        """Give back the leases of a query whose answer the main thread hasn't read: (id, kind) of each."""
        return [(job, kind) for job, kind in self.rows("release_strays_v1", worker, as_array([token]))]

    def look_at_clock(self, clock: Clock) -> None:
        """Ask the database what time it is."""
        sent_at = time.monotonic()
        clock.saw(sent_at, self.value("statement_time_v1").timestamp(), time.monotonic())

    def wakes_come(self) -> bool:
        """Can the main thread rely on being woken by enqueues?"""
        return bool(self.value("wakes_come_v1"))

    def housemates(self, identity: Identity) -> list[Identity]:
        """The other workers of this machine, as they registered."""
        rows = self.rows("housemates_v1", identity.id, identity.machine_id)
        return [Identity(*row) for row in rows]

    def release_worker(self, worker: UUID, why: str) -> list[tuple[int, str, str]]:
        """Return what a dead worker held, and forget it: (id, kind, outcome) of each job."""
        return [(job, kind, how) for job, kind, how in self.rows("release_worker_v1", worker, why)]

    def release_invocation(self, invocation_id: str, why: str) -> list[tuple[int, str, str]]:
        """The same for the process that systemd knows by this id."""
        return [(job, kind, how) for job, kind, how in self.rows("release_invocation_v1", invocation_id, why)]

    def count_ended(self, ended: Mapping[tuple[str, str], int]) -> None:
        """Count, for the metrics of all workers, what ended with a worker: how many, by kind and outcome. FORCED: so
        many processes were ended because a handler of the kind didn't stop."""
        if ended:
            kinds, outcomes = zip(*ended, strict=True)
            self.rows("count_ended_v1", list(kinds), list(outcomes), list(ended.values()))

    def unregister(self, worker: UUID, strays: Sequence[str]) -> None:
        """Give back what the lease queries of these tokens may have leased, and take the worker's row away."""
        self.rows("unregister_v1", worker, as_array(strays))


# A connection's attribute, and the argument that the count itself is given.
_OWN_REFERENCES = 2
_AT_REST = (TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
# A handlers' connection that was idle for longer is asked whether it lives before it is handed out.
FRESH_SECONDS = 2.0
# How long our own questions on it, outside of any attempt, wait for an answer.
BETWEEN_SECONDS = 2.0


class Ledger(Session):
    """The connection that handlers write with, opened when the first one asks for it.

    `pooled`: it is a pooler's, whose sessions are used by others as well, so there is nothing to tidy in them.
    """

    hears_notices = False  # what a handler's own statements say is its own matter

    def __init__(self, connect: Connect, schema: str, *, pooled: bool = False) -> None:
        super().__init__(connect, schema)
        self._pooled = pooled
        self._used = False
        self._used_at = 0.0

    @property
    def connection(self) -> ImpatientConnection:
        """The handlers' connection, looked after: one that broke while nobody used it is no handler's fault."""
        if self.opened and not self._used and time.monotonic() - self._used_at > FRESH_SECONDS:
            try:
                super().connection.execute("SELECT 1")
            except psycopg.Error:
                self.close()
        self._used = True
        return super().connection

    def lend(self, answer_by: Callable[[], float]) -> psycopg.Connection:
        """The handlers' connection for one attempt: no call of its waits for an answer beyond answer_by()."""
        if self._connection is not None:
            self._connection.answer_by = answer_by  # for the question whether it lives, too
        connection = self.connection
        connection.answer_by, connection.answer_seconds = answer_by, None
        return connection

    def settle(self, lease: Lease, outcome: Outcome, retention: str) -> bool:
        """End the lease inside the handler's own transaction."""
        return not settle(self, "settle_within_v1", [Finished(lease, outcome, retention, 0.0)])

    @property
    def broken(self) -> bool:
        """Did the connection break under the handler? Then its failure is the database's, not the job's."""
        return self._connection is not None and self._connection.broken

    def tidy(self) -> None:
        """After an attempt: the next handler finds a connection as new. Where that is not certain, it finds none."""
        if self._connection is None or not self._used:
            return
        self._used = False
        self._used_at = time.monotonic()
        pgconn = self._connection.pgconn
        if sys.getrefcount(self._connection) > _OWN_REFERENCES:
            self._abandon(pgconn)
            return
        if pgconn.pipeline_status or pgconn.transaction_status not in _AT_REST:  # in a COPY, say: there is no way back
            self.close()
            return
        # What psycopg keeps for a connection, it keeps in its object: from now on it is another one.
        new, opening = type(self._connection), self._connection.opening
        del self._connection.pgconn  # or the old one would complain that nobody closed it
        self._connection = None
        pgconn.notify_handler = pgconn.notice_handler = None  # what is still to come is nobody's
        in_transaction = pgconn.transaction_status != TransactionStatus.IDLE
        forget = b"" if self._pooled else _FORGET
        if in_transaction:
            forget = b"ROLLBACK; " + forget
        try:
            # By libpq itself, which takes less than a cursor: that pays for the new object.
            if forget:
                pgconn.send_query(forget)
                forgotten = waiting.wait(generators.execute(pgconn), pgconn.socket, 0.1, BETWEEN_SECONDS)
                if forgotten[-1].status != ExecStatus.COMMAND_OK:
                    pgconn.finish()
                    return
        except (psycopg.Error, psycopg.errors._WaitTimeout):
            pgconn.finish()
            return
        self._connection = new(pgconn)
        self._connection.answer_seconds = BETWEEN_SECONDS
        self._connection.autocommit = True
        if opening:
            self._connection.opening = opening

    def _abandon(self, pgconn: PGconn) -> None:
        """A thread, a cursor or a global of the handler's has the connection still, and would write into the next job's
        transaction. Whoever uses it finds that it ended. It isn't closed: a thread that waits for it would then wait
        for a descriptor that is somebody else's."""
        self._connection = None
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(pgconn.socket)) as end:
            end.shutdown(socket.SHUT_RDWR)


def settle(session: Session, function: str, finished: Sequence[Finished]) -> set[int]:
    """End leases on whatever connection; fenced by their tokens. The ids of those that were lost."""
    return {job for (job,) in session.rows(function, *settle_arguments(finished))}


def make_days(session: Session) -> None:
    """Make the history's days that are missing, unless somebody else just does so."""
    session.value("ensure_history_v1")


def record_lost(session: Session, leased_by: str, finished: Finished) -> None:
    """Write into the history that this worker came too late."""
    lease = finished.lease
    session.rows("lost_v1", leased_by, lease.id, lease.kind, lease.attempt, finished.outcome.error, finished.retention)
