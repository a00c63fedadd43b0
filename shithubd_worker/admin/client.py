"""Client: the queue for programs. A page of a forge, a script or a test changes jobs as the commands do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from shithubd_worker import client
from shithubd_worker.admin import arguments
from shithubd_worker.admin.borrowed import must_commit, operations_of
from shithubd_worker.admin.changes import Changes
from shithubd_worker.admin.rows import refusing, value_of
from shithubd_worker.admin.scopes import check_place, scope_of
from shithubd_worker.database.operations import Operations, RecordedHold
from shithubd_worker.errors import TimedOut
from shithubd_worker.model import LISTED, check_kind
from shithubd_worker.options import seconds_in, whole
from shithubd_worker.ramps import checked

if TYPE_CHECKING:
    import psycopg


class Client(Changes):
    """The queue, for a program. Its methods mean what the SQL functions and the commands of the same name mean.

    `database` is a URL (or None: libpq's variables), or a connection of psycopg.

    - With a URL the Client has a connection of its own, and each call is a transaction. It is opened by the first call
      and closed by `close()` or at the end of a `with` block. For one thread at a time.
    - With a connection each call is part of the connection's transaction, and yours to commit.

    `schema`: where the queue is. None means SHITHUBD_WORKER_SCHEMA, or `public`. `actor`: who asks, for the audit
    record. None means the user of this process and its host. Each change also takes a `reason`.

    Raises TypeError or ValueError for an argument that can't work, the errors of shithubd_worker.errors, and those of
    psycopg if the database refuses. An example:

        with Client(actor="ada@example.org") as queue:
            number = queue.enqueue("stars.add", repo="ada/engine", stars=2)
            for job in queue.discard_jobs([number, 99], reason="the repository is gone"):
                print(f"job {job.id} of kind {job.kind} was {job.state}")
    """

    def __init__(
        self,
        database: str | psycopg.Connection[Any] | None = None,
        *,
        schema: str | None = None,
        actor: str | None = None,
    ) -> None:
        who = arguments.text("actor", actor)
        super().__init__(operations_of(database, client.queue_name(schema)))
        if who is not None:
            self._operations.actor = who

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    # Enqueue

    def enqueue(
        self,
        kind: str,
        /,
        *,
        delay: float | timedelta | None = None,
        run_at: datetime | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        **members: object,
    ) -> int:
        """Add a job, and return its id. As shithubd_worker.enqueue."""
        if "schema" in members:
            raise TypeError("the schema is the Client's: give it to Client(schema=…)")
        return client.enqueue(
            self._operations.connection,
            kind,
            delay=delay,
            run_at=run_at,
            priority=priority,
            max_attempts=max_attempts,
            schema=self._operations.schema,
            **members,
        )

    def enqueue_many(
        self,
        kind: str,
        payloads: Iterable[Mapping[str, object]],
        /,
        *,
        delay: float | timedelta | None = None,
        run_at: datetime | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
    ) -> list[int]:
        """Add a job for each payload: all of them, or none. Returns their ids in the same order."""
        return client.enqueue_many(
            self._operations.connection,
            kind,
            payloads,
            delay=delay,
            run_at=run_at,
            priority=priority,
            max_attempts=max_attempts,
            schema=self._operations.schema,
        )

    # Stop and start work

    def pause_kind(
        self, kind: str, *, until: datetime | None = None, timeout: float | timedelta = 30, reason: str | None = None
    ) -> RecordedHold:
        """Stop a kind: when this returns, no job of it starts any more. Raises TimedOut if that is not certain after
        `timeout` seconds; the hold stays."""
        check_kind(kind)
        why, end, seconds = arguments.text("reason", reason), _until(until), seconds_in("timeout", timeout)
        must_commit(self._operations, "pause_kind")
        operations = self._ready()
        with refusing():
            hold = operations.pause_kind(kind, why, end)
        _make_certain(operations, hold, seconds)
        for _ in operations.mirror(hold):
            pass
        return hold

    def resume_kind(
        self,
        kind: str,
        *,
        canary: int | None = None,
        ramp: Iterable[int] | None = None,
        every: float | timedelta | None = None,
        rate: float | None = None,
        stop_at: float | None = None,
        until: datetime | None = None,
        reason: str | None = None,
    ) -> RecordedHold | None:
        """Start a kind again, and queue its paused jobs. Returns the hold that ended; None if there was none.

        With `canary`, `ramp` or `rate` the kind starts in steps: first so many jobs, then so many percent of the
        workers (each step lasts `every`, 2 minutes by default), and never more than `rate` jobs per second. Then it
        returns the hold, which stands until the ramp is over, or until `until`. The ramp stops when a canary
        job does not end ok, or when the part `stop_at` of the runs does not (0.2 by default)."""
        check_kind(kind)
        why, end, steps = arguments.text("reason", reason), _until(until), checked(canary, ramp, every, rate, stop_at)
        if end is not None and steps is None:
            raise ValueError("until is the end of a ramp: it needs canary, ramp or rate")
        operations = self._ready()
        if steps is None:
            hold = operations.resume_kind(kind, why)
        else:
            with refusing():
                hold = operations.ramp_kind(kind, steps, why, end)
        for _ in operations.unpause(kind):
            pass
        return hold

    def drain(
        self,
        *,
        host: str | None = None,
        unit: str | None = None,
        worker: str | None = None,
        until: datetime | None = None,
        timeout: float | timedelta = 30,
        reason: str | None = None,
    ) -> RecordedHold:
        """Stop a host, a unit or a worker (its uuid or host:pid); with none of them, the fleet. When this returns, no
        job of it starts any more. Raises TimedOut as `pause_kind`."""
        check_place(host, unit, worker)
        why, end, seconds = arguments.text("reason", reason), _until(until), seconds_in("timeout", timeout)
        must_commit(self._operations, "drain")
        operations = self._ready()
        scope = scope_of(operations, host, unit, worker)
        with refusing():
            hold = operations.drain(scope, why, end)
        _make_certain(operations, hold, seconds)
        return hold

    def resume(
        self,
        *,
        host: str | None = None,
        unit: str | None = None,
        worker: str | None = None,
        reason: str | None = None,
    ) -> list[RecordedHold]:
        """End the drain of a host, a unit or a worker; with none of them, all drains. Returns those that ended."""
        check_place(host, unit, worker)
        why = arguments.text("reason", reason)
        operations = self._ready()
        named = any(name is not None for name in (host, unit, worker))
        return operations.resume(scope_of(operations, host, unit, worker) if named else None, why)

    # Look

    def status(self) -> dict[str, Any]:
        """The state of the queue and its workers, as `status --json`."""
        return self._ready().status()

    def job(self, job_id: int) -> dict[str, Any] | None:
        """One job with its history, as `jobs show --json`. None if nobody knows it."""
        number = arguments.row_id("a job's id", job_id)
        found = self._ready().job(number)
        return None if found is None else {**found, "payload": value_of(found["payload"])}

    def jobs(
        self, *, state: str | None = None, kind: str | None = None, limit: int = 50, after: int | None = None
    ) -> list[dict[str, Any]]:
        """Jobs by id, as `jobs list --json`: at most `limit`. For the next page, `after` is the last id of this one."""
        where: dict[str, object] = {} if state is None else {"state": arguments.state(state, LISTED)}
        if kind is not None:
            check_kind(kind)
            where["kind"] = kind
        most = whole("limit", limit, (1, 100_000))
        begin = None if after is None else arguments.row_id("after", after)
        found = self._ready().jobs(where, most, begin)
        return [{**job, "payload": value_of(job["payload"])} for job in found]


def _make_certain(operations: Operations, hold: RecordedHold, seconds: float) -> None:
    if not operations.barrier(hold.covers, time.monotonic() + seconds, lambda _text: None):
        raise TimedOut(f"{hold.covers} is held, but after {seconds:g} s it is not certain that nothing of it starts")


def _until(until: datetime | None) -> datetime | None:
    return arguments.moment("until", until)
