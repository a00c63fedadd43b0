"""Client: the queue for programs. A page of a forge, a script or a test changes jobs as the commands do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from shithubd_worker import client
from shithubd_worker.admin.borrowed import in_tuples, must_commit, operations_of
from shithubd_worker.admin.rows import JobRow, changed, value_of
from shithubd_worker.admin.scopes import scope_of
from shithubd_worker.database import schema as tables
from shithubd_worker.database.operations import Operations, RecordedHold
from shithubd_worker.errors import TimedOut
from shithubd_worker.model import check_kind
from shithubd_worker.options import ATTEMPTS, PRIORITIES, moment_in_utc, seconds_in, whole

if TYPE_CHECKING:
    import psycopg

    from shithubd_worker.model import Scope


class Client:
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
        self._operations = operations_of(database, client.queue_name(schema))
        if actor is not None:
            self._operations.actor = actor
        self._checked = False

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

    # Change jobs

    def complete_jobs(self, job_ids: Iterable[int], *, reason: str | None = None) -> list[JobRow]:
        """End jobs as if they were done, unless they run. Returns those that it ended."""
        return self._changed("complete_jobs", reason, _ids(job_ids))

    def permanently_fail_jobs(
        self, job_ids: Iterable[int], error_message: str, *, reason: str | None = None
    ) -> list[JobRow]:
        """Make jobs failed, unless they run. `error_message` becomes their last error. Returns those that it
        changed."""
        message = _text("error_message", error_message)
        return self._changed("permanently_fail_jobs", reason, _ids(job_ids), message)

    def reschedule_jobs(
        self,
        job_ids: Iterable[int],
        *,
        run_at: datetime | None = None,
        priority: int | None = None,
        attempts: int | None = None,
        max_attempts: int | None = None,
        reason: str | None = None,
    ) -> list[JobRow]:
        """Change when and how often jobs run, unless they run now. None leaves a value as it is. A failed job is queued
        again. Returns those that it changed."""
        return self._changed(
            "reschedule_jobs",
            reason,
            _ids(job_ids),
            None if run_at is None else moment_in_utc(run_at),
            None if priority is None else whole("priority", priority, PRIORITIES),
            None if attempts is None else whole("attempts", attempts, (0, ATTEMPTS[1])),
            None if max_attempts is None else whole("max_attempts", max_attempts, ATTEMPTS),
        )

    def retry_jobs(self, job_ids: Iterable[int], *, reason: str | None = None) -> list[JobRow]:
        """Queue failed jobs anew, and make jobs due that wait for a later time. Returns those that it changed."""
        return self._changed("retry_jobs", reason, _ids(job_ids))

    def discard_jobs(self, job_ids: Iterable[int], *, reason: str | None = None) -> list[JobRow]:
        """Remove jobs that must not run, unless they run. Returns those that it removed."""
        return self._changed("discard_jobs", reason, _ids(job_ids))

    def release_jobs(
        self, job_ids: Iterable[int], *, accept_second_run: bool = False, reason: str | None = None
    ) -> list[JobRow]:
        """Put the jobs of dead workers back into the queue. Returns those that it released."""
        return self._changed("release_jobs", reason, _ids(job_ids), accept_second_run)

    # Stop and start work

    def pause_kind(
        self, kind: str, *, until: datetime | None = None, timeout: float | timedelta = 30, reason: str | None = None
    ) -> RecordedHold:
        """Stop a kind: when this returns, no job of it starts any more. Raises TimedOut if that is not certain after
        `timeout` seconds; the hold stays."""
        check_kind(kind)
        seconds = seconds_in("timeout", timeout)
        must_commit(self._operations, "pause_kind")
        operations = self._ready()
        hold = operations.pause_kind(kind, _text("reason", reason), None if until is None else moment_in_utc(until))
        _make_certain(operations, hold, seconds)
        for _ in operations.mirror(hold):
            pass
        return hold

    def resume_kind(self, kind: str, *, reason: str | None = None) -> RecordedHold | None:
        """Start a kind again, and queue its paused jobs. Returns the hold that ended; None if there was none."""
        check_kind(kind)
        operations = self._ready()
        hold = operations.resume_kind(kind, _text("reason", reason))
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
        seconds = seconds_in("timeout", timeout)
        must_commit(self._operations, "drain")
        operations = self._ready()
        scope = scope_of(operations, host, unit, worker)
        hold = operations.drain(scope, _text("reason", reason), None if until is None else moment_in_utc(until))
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
        operations = self._ready()
        scope: Scope | None = scope_of(operations, host, unit, worker) if host or unit or worker else None
        return operations.resume(scope, _text("reason", reason))

    # Look

    def status(self) -> dict[str, Any]:
        """The state of the queue and its workers, as `status --json`."""
        return self._ready().status()

    def job(self, job_id: int) -> dict[str, Any] | None:
        """One job with its history, as `jobs show --json`. None if nobody knows it."""
        number = _id(job_id)
        found = self._ready().job(number)
        return None if found is None else {**found, "payload": value_of(found["payload"])}

    def close(self) -> None:
        """Close the Client's own connection. A connection that you gave stays open."""
        self._operations.close()

    def _ready(self) -> Operations:
        """The operations, once the schema has been checked."""
        if not self._checked:
            with in_tuples(self._operations.connection) as connection:
                tables.check(connection, self._operations.schema)
            self._checked = True
        return self._operations

    def _changed(self, function: str, reason: str | None, *arguments: object) -> list[JobRow]:
        why = _text("reason", reason)
        return changed(self._ready(), function, *arguments, why, self._operations.actor)


def _make_certain(operations: Operations, hold: RecordedHold, seconds: float) -> None:
    if not operations.barrier(hold.covers, time.monotonic() + seconds, lambda _text: None):
        raise TimedOut(f"{hold.covers} is held, but after {seconds:g} s it is not certain that nothing of it starts")


def _id(job: int) -> int:
    return whole("a job's id", job, (-(2**63), 2**63 - 1))


def _ids(job_ids: Iterable[int]) -> list[int]:
    if isinstance(job_ids, (str, bytes)):
        raise TypeError("job_ids must be numbers, not text")
    return [_id(job) for job in job_ids]


def _text(name: str, text: str | None) -> str | None:
    if text is not None and not isinstance(text, str):
        raise TypeError(f"{name} must be a string, not {type(text).__name__}")
    if text is not None and "\0" in text:
        raise ValueError(f"{name} contains a NUL character, which PostgreSQL can't store")
    return text
