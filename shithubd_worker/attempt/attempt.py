"""Runs one handler, and gives it what `job.*` promises. attempt/outcome.py decides the result.

This is the one place that catches everything that a handler may raise.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from shithubd_worker.attempt.children import Children
from shithubd_worker.attempt.deadlines import Deadlines, StopRequest
from shithubd_worker.attempt.outcome import OK, Ended, Interrupt, Result, Settle, decide, interrupted, unfit
from shithubd_worker.attempt.raised import fell_at_entry, refuse_unrun
from shithubd_worker.errors import Interrupted, LeaseLost
from shithubd_worker.host.forks import end_child, refuse_in_child
from shithubd_worker.job import Job
from shithubd_worker.model import Lease, Outcome, Past
from shithubd_worker.registry import Kind
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import INTERRUPT_AGAIN_SECONDS

if TYPE_CHECKING:
    import subprocess

    import psycopg

log = logging.getLogger(__name__)

_DONE_WELL = Result(OK)  # the result of nearly all attempts
_read_json = json.JSONDecoder().raw_decode  # the text of a jsonb has nothing before or after the value


class HandlerDatabase(Protocol):
    """What an attempt needs of the handlers' connection: database.handler_session."""

    schema: str

    def lend(self, answer_by: Callable[[], float]) -> psycopg.Connection:
        """The handlers' connection. No call on it waits for an answer beyond answer_by()."""

    @property
    def broken(self) -> bool:
        """Is the connection broken?"""

    def settle(self, lease: Lease, outcome: Outcome, retention: str) -> bool:
        """End the lease, in the transaction that is open on the connection."""

    def past(self, lease: Lease) -> Past | None:
        """What the lease doesn't carry. None if it is lost."""


class Attempt(Deadlines):
    """One run of one handler."""

    # The worker makes one for each job, 40,000 times a second.
    __slots__ = (
        "_alarm",
        "_database",
        "_interrupted",
        "_job",
        "_members",
        "_quiet_until",
        "_refused",
        "children",
        "config",
        "in_doubt",
    )

    def __init__(
        self,
        kind: Kind,
        lease: Lease,
        *,
        config: Config,
        database: HandlerDatabase,
        stop: StopRequest,
        alarm: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        Deadlines.__init__(self, kind, lease, stop, clock)  # super() takes twice as long
        self.children: Children | None = None  # made when the handler starts its first child
        self.in_doubt = False  # job.transaction() sent its COMMIT, and no answer came
        self.config = config
        self._database = database
        self._alarm = alarm
        self._interrupted: str | None = None
        self._quiet_until = 0.0  # no interrupt before this moment
        self._refused: BaseException | None = None  # what the database said when a connection or a settle was refused
        self._job: Job
        self._members: dict[str, object]

    def prepare(self) -> Result | None:
        """Parse the payload and check it against the handler's signature. A Result if it doesn't fit, else None."""
        try:
            self._members, _ = _read_json(self.lease.payload or "")
            self._job = Job(self)
            self.kind.check(self._job, self._members)
        except (ValueError, TypeError, RecursionError, MemoryError) as error:
            self.over = True
            return unfit(error)
        return None

    def run(self) -> Result | None:
        """Run the prepared handler to its end. None if it may not start any more, because its lease is so old that the
        holds must be looked at again. Raises nothing."""
        try:
            try:
                self._alarm(self.end_at)
                # This is the last step before the handler's first line: a hold may be set during anything that stands
                # between the two.
                if not self.may_start():
                    return None
                # not earlier: an interrupt outside of the handler would cost a job that didn't start
                self._armed = True
                result = self.kind.handler(self._job, **self._members)
            finally:
                self._armed = False
            end_child(None)
            if result is not None:
                refuse_unrun(result)
            return self._came_to(None) if self.settled or self.in_doubt else _DONE_WELL
        except BaseException as error:  # noqa: BLE001 (the one place: a handler may raise anything, SystemExit too)
            self._armed = False
            end_child(error)
            if isinstance(error, Interrupted) and fell_at_entry(error):
                return None
            return self._came_to(error)
        finally:
            self.over = True
            self.end_children()
            del self._job  # the job refers to this attempt: together they would wait for the garbage collector

    @property
    def schema(self) -> str:
        """See Job.schema."""
        return self._database.schema

    @property
    def max_attempts(self) -> int:
        """See Job.max_attempts."""
        return self.kind.most_attempts(self.lease)

    def past(self) -> Past:
        """See Job.created_at. It breaks no transaction of the handler, and leaves none open."""
        refuse_in_child("job.created_at or job.last_error")
        if self.settled or self.in_doubt:
            raise RuntimeError("job.transaction() has ended the job: read job.created_at and job.last_error before")
        with self.connection().transaction():
            found = self._database.past(self.lease)
        if found is None:
            raise LeaseLost(f"job {self.lease.id} was leased again while this run went on")
        return found

    def extend(self, seconds: float | timedelta | None) -> None:
        """Set the end of `max_runtime` to `seconds` from now."""
        refuse_in_child("job.extend()")
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        self.runtime_deadline = self._clock() + (self.kind.max_runtime if seconds is None else float(seconds))
        if self._armed:
            self._arm()

    def connection(self) -> psycopg.Connection:
        """The handlers' connection."""
        refuse_in_child("job.connection")
        try:
            return self._database.lend(self.answer_by)
        except Exception as error:
            self._refused = error
            raise

    def popen(self, command: Sequence[str], *, env: Mapping[str, str] | None, **options: Any) -> subprocess.Popen[Any]:
        """See Job.popen."""
        refuse_in_child("job.popen()")
        if self.children is None:
            self.children = Children()
        return self.children.popen(command, env=env, **options)

    def end_children(self) -> None:
        """Kill the processes that the handler started and left. Safe from any thread."""
        if self.children is not None:
            self.children.end_all()

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """See Job.transaction. No interrupt falls between the settle and the answer to the COMMIT. If the connection
        can't wait for that answer any longer, it gives up, and the interrupt follows."""
        refuse_in_child("job.transaction()")
        if self.settled or self.in_doubt:
            raise RuntimeError("job.transaction() ends the job, so it can be used only once")
        connection = self.connection()
        if connection.info.transaction_status.name != "IDLE":
            # Inside another transaction this would be a savepoint, so the settle could still be rolled back.
            raise RuntimeError("job.transaction() can't be used inside another transaction of job.connection")
        committing = False
        try:
            with connection.transaction():
                try:
                    yield connection
                finally:
                    self._armed = False
                try:
                    held = self._database.settle(self.lease, OK, self.kind.retention)
                except Exception as error:
                    self._refused = error
                    raise
                if not held:
                    raise LeaseLost(f"job {self.lease.id} was leased again while this run went on")
                committing = True
            self.settled = True
        except BaseException as error:
            self.in_doubt = committing
            if self._database.broken and not self._interrupted and (why := self.why_end()):
                self._interrupted = why
                raise Interrupted(why) from error
            raise
        finally:
            self._arm()

    def interrupt_if_due(self) -> None:
        """Called in the main thread, by the alarm's signal handler. Raises Interrupted in the handler's frame if that
        is due."""
        if not self._armed:
            return
        why = self.why_end()
        if why is None:
            self._arm()
            return
        if self._clock() < self._quiet_until:
            # The control thread rang right after the alarm. The handler still cleans up.
            self._alarm(self._quiet_until)
            return
        self._interrupted = why
        self._alarm(self._quiet())
        raise Interrupted(why)

    def interrupted_outcome(self, why: str, stood: str) -> Outcome:
        """The outcome of an interrupt now, for the reason `why`. `stood` is the handler's stack."""
        return interrupted(self.kind, self.lease, self._interrupt(why), stood, random.random())  # noqa: S311

    def _arm(self) -> None:
        self._armed = True
        self._alarm(self._quiet() if self._interrupted else self.end_at)

    def _quiet(self) -> float:
        """After an interrupt, the handler gets some time to clean up before the next one. Until when."""
        self._quiet_until = self._clock() + INTERRUPT_AGAIN_SECONDS
        return self._quiet_until

    def _came_to(self, raised: BaseException | None) -> Result:
        if self.settled and raised is not None:
            log.warning(
                "job %d raised an error after job.transaction() had settled it: it stays ok",
                self.lease.id,
                exc_info=raised,
                extra={"job_id": self.lease.id, "kind": self.kind.name, "attempt": self.lease.attempt},
            )
        settle = Settle.DONE if self.settled else Settle.IN_DOUBT if self.in_doubt else Settle.DUE
        interrupt = self._interrupt(self._interrupted) if self._interrupted else None
        ended = Ended(self.kind, self.lease, raised, settle, interrupt, self._refused, self._database.broken)
        return decide(ended, random.random())  # noqa: S311

    def _interrupt(self, why: str) -> Interrupt:
        now, asked_at = self._clock(), self.asked_at  # read once: the control thread may get its answer at this moment
        return Interrupt(
            why,
            lost=self.lost,
            unreachable=self.unreachable,
            silent=self.lease_deadline < self.renewed_at + self.kind.lease_timeout,
            waited=0.0 if asked_at is None else now - asked_at,
            ran=now - self.started_at,
            extended=self.runtime_deadline != self.started_at + self.kind.max_runtime,
        )
