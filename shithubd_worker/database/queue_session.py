"""What a worker's main thread asks: lease, start, settle, sweep."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import psycopg
from psycopg import sql

from shithubd_worker.database import history, rights, routines, schema
from shithubd_worker.database.arrays import as_array
from shithubd_worker.database.connection import Connect
from shithubd_worker.database.impatient import ImpatientConnection
from shithubd_worker.database.settles import Settling, settle
from shithubd_worker.model import Finished, Hold, Lease

# The most expired leases that one sweep returns.
MOST_SWEPT = 2000


class QueueSession(Settling):
    """What a worker's main thread asks: lease, start, settle, sweep."""

    def __init__(self, connect: Connect, schema_name: str, worker: UUID) -> None:
        super().__init__(connect, schema_name)
        self.worker = worker
        self._on_notify: Callable[[str], None] | None = None

    @property
    def connection(self) -> ImpatientConnection:
        """The connection. If it must be opened anew, the new one listens too."""
        opened = self.opened
        connection = super().connection
        if not opened:
            try:
                self._listen(connection)
            except BaseException:
                self.close()  # otherwise the next call would take it for one that listens
                raise
        return connection

    def listen(self, on_notify: Callable[[str], None]) -> None:
        """Listen from now on for jobs that become runnable. The payload `anew` says that a scan from the start may be
        needed."""
        self._on_notify = on_notify
        self.close()
        _ = self.connection  # this opens it

    def _listen(self, connection: psycopg.Connection) -> None:
        if (on_notify := self._on_notify) is not None:
            channel = self.value("channel_v1")
            connection.add_notify_handler(lambda notify: on_notify(notify.payload))
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    def check(self) -> None:
        """Raises SchemaMismatch or RightsMissing if the schema or the role isn't what this release needs."""
        with rights.in_pg_catalog(self.connection):
            schema.check(self.connection, self.schema)
            rights.check(self.connection, self.schema, "shithub_worker")

    @property
    def open_to_all(self) -> bool:
        """May everybody create in the schema?"""
        with rights.in_pg_catalog(self.connection):
            return routines.everybody_creates(self.connection, self.schema)

    @property
    def wakes(self) -> bool:
        """Do enqueues wake workers in this database?"""
        return bool(self.value("enqueues_notify_v1"))

    def start(self, leases: Sequence[Lease], token: str, timeouts: Sequence[float]) -> list[Lease]:
        """Look at the holds once more, for leases of one batch. Returns the leases that may start, renewed under a new
        token."""
        sent_at = time.monotonic()
        ids = [lease.id for lease in leases]
        rows = self.rows("start_v1", self.worker, ids, leases[0].token, token, list(timeouts))
        granted = {job for (job,) in rows}
        batch = leases[0].batch._replace(token=token, sent_at=sent_at, again=True)
        return [lease._replace(batch=batch) for lease in leases if lease.id in granted]

    def settle_all(self, finished: Sequence[Finished]) -> tuple[set[int], set[int]]:
        """Settle all of a batch. If no locked row was the cause of a wait in vain, for example a row that each trigger
        of the application changes, wait once more and for longer. Otherwise a busy lock could keep this worker out for
        ever. The control thread can't wait, because it renews leases."""
        try:
            return self.settle(finished)
        except psycopg.errors.LockNotAvailable:
            return settle(self, "settle_within_v1", finished), set()

    def payloads(self, leases: Sequence[Lease]) -> dict[int, tuple[str | None, str | None]]:
        """Payloads that were left out of a lease's answer: job → text, and what is wrong with it. The first job's is
        there unless its lease is lost; more follow as far as their memory is acceptable."""
        rows = self.rows("payloads_v1", as_array([str(lease.id) for lease in leases]), leases[0].token)
        return {job: (payload, fault) for job, payload, fault in rows}

    def kind_holds(self) -> list[Hold]:
        """The pauses of kinds that are in force now."""
        return [Hold("kind", target, reason, actor) for target, reason, actor in self.rows("pauses_v1")]

    def sweep(
        self,
        *,
        back: float | None = None,
        strays: Sequence[str] = (),
        earliest: float | None = None,
        timeouts: Mapping[str, float] | None = None,
        delay: float = 0.0,
    ) -> list[tuple[int, str, str]]:
        """Sweep: put right what nobody else will (sweep_v1). Returns (id, kind, outcome) of each job that it
        changed."""
        kinds = dict(timeouts or {})
        rows = self.rows(
            "sweep_v1",
            self.worker,
            back,
            as_array(strays),
            MOST_SWEPT,
            earliest,
            list(kinds),
            list(kinds.values()),
            delay,
        )
        return [(job, kind, how) for job, kind, how in rows]

    def sweep_silent(
        self, threshold: float, interval: float, delay: float, earliest: float, steady: float
    ) -> list[tuple[int, str, str, str]]:
        """Take the jobs of silent workers (sweep_silent_v1). Returns (id, kind, outcome, former owner) of each."""
        rows = self.rows("sweep_silent_v1", self.worker, threshold, delay, interval, earliest, steady)
        return [(job, kind, how, owner) for job, kind, how, owner in rows]

    def housekeep(self, *, drop: bool = True) -> list[str]:
        """Make the history's next days, forget dead workers, and drop the days that are over. Returns what was done.

        Each step waits for a reader for one second at most. Then it gives up until the next time.
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
