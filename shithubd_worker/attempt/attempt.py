"""Runs one handler and says what came of it.

The one place that catches whatever a handler raises. The deadlines of a run live here too: the alarm asks
`interrupt_if_due` in the main thread, the control thread reads and moves `lease_deadline`.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from shithubd_worker.attempt.children import Children
from shithubd_worker.attempt.raised import (
    as_text,
    came_from_fork,
    chain,
    fell_at_entry,
    interrupt_behind,
    refuse_unrun,
    stood_at,
    storable,
)
from shithubd_worker.backoff import jittered
from shithubd_worker.database.sqlstates import Meaning, meaning, no_day
from shithubd_worker.errors import Interrupted, LeaseLost, NotNow, Permanent, RetryAfter
from shithubd_worker.host.forks import end_child, refuse_in_child
from shithubd_worker.job import Job
from shithubd_worker.model import How, Lease, Outcome
from shithubd_worker.registry import Kind
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import (
    ANSWER_MARGIN,
    DEAD_MAN_MARGIN,
    INTERRUPT_AGAIN_SECONDS,
    LONG_SECONDS,
    SETTLE_SECONDS,
    SHORT_SECONDS,
    START_AGAIN_WITHIN_SECONDS,
    START_WITHIN_SECONDS,
)

if TYPE_CHECKING:
    import subprocess

    import psycopg

log = logging.getLogger(__name__)

_SHORT_OF = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
OK = Outcome(How.OK)
_read_json = json.JSONDecoder().raw_decode  # what jsonb gives as text has nothing before it or after


class HandlerDatabase(Protocol):
    """What an attempt needs of the database for its handler: database.handler_session."""

    schema: str

    def lend(self, answer_by: Callable[[], float]) -> psycopg.Connection:
        """The handlers' connection, no call of which waits for an answer beyond answer_by()."""

    @property
    def broken(self) -> bool:
        """Did it break?"""

    def settle(self, lease: Lease, outcome: Outcome, retention: str) -> bool:
        """End the lease in the transaction that is open on it."""


class Deadlines(Protocol):
    """The stop request: when must a running handler be released? host.Stop."""

    @property
    def release_at(self) -> float:
        """On the monotonic clock; infinity if nobody asked to stop."""


class Attempt:
    """One run of one handler. Times are on the monotonic clock."""

    # One is made for each job, 40,000 times a second.
    __slots__ = (
        "_alarm",
        "_armed",
        "_clock",
        "_config",
        "_database",
        "_interrupted",
        "_job",
        "_members",
        "_refused",
        "_stop",
        "asked_at",
        "children",
        "connection_broke",
        "kind",
        "lease",
        "lease_deadline",
        "lost",
        "over",
        "runtime_deadline",
        "settled",
        "short",
        "started_at",
        "unknown",
        "unreachable",
    )

    def __init__(
        self,
        kind: Kind,
        lease: Lease,
        *,
        config: Config,
        database: HandlerDatabase,
        stop: Deadlines,
        alarm: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self.lease = lease
        self.children: Children | None = None  # made when the handler starts the first
        self.started_at = clock()
        self.runtime_deadline = self.started_at + kind.max_runtime
        self.lease_deadline = lease.sent_at + kind.lease_timeout  # moved by the control thread at each renewal
        self.lost = False  # set by the control thread when a renewal was refused
        self.unreachable = False  # set by the control thread while it can't reach the database
        self.asked_at: float | None = None  # set by it while it waits for the database, or a renewal was refused
        self.over = False  # the handler has returned; what is left is the main thread's settle
        self.settled = False  # job.transaction() has committed
        self.short: str | None = None  # the handler was refused connections, memory or disk: which
        self.connection_broke = False  # the handler failed, and its database connection with it
        self.unknown = False  # job.transaction() sent its COMMIT, and no answer came
        self._config = config
        self._database = database
        self._stop = stop
        self._alarm = alarm
        self._clock = clock
        self._armed = False
        self._interrupted: str | None = None
        self._refused: BaseException | None = None  # what the database said to opening a connection, or to a settle
        self._job: Job
        self._members: dict[str, object]

    def prepare(self) -> Outcome | None:
        """Read the payload and hold it against the handler's signature. An Outcome if it doesn't fit, else None."""
        try:
            self._members, _ = _read_json(self.lease.payload or "")
            self._job = Job(self, self._config, self._database.schema)
            self.kind.check(self._job, self._members)
        except (ValueError, TypeError, RecursionError, MemoryError) as error:
            self.over = True
            return Outcome(How.POISON, f"the payload doesn't fit the handler: {as_text(error)}")
        return None

    def run(self) -> Outcome | None:
        """Run the prepared handler to its end, whatever that is. None if it may not start any more: the lease is too
        old to go without another look at the holds. Raises nothing."""
        try:
            try:
                self._alarm(self.end_at)
                # The last step before the handler's first line: whatever comes between them, a hold may come between.
                if not self.may_start():
                    return None
                self._armed = True  # not before: an interrupt outside of the handler would cost a job that didn't start
                result = self.kind.handler(self._job, **self._members)
            finally:
                self._armed = False
            end_child(None)
            if result is not None:
                refuse_unrun(result)
            return OK
        except BaseException as error:  # noqa: BLE001 (the one place: a handler may raise anything, SystemExit too)
            self._armed = False
            end_child(error)
            if isinstance(error, Interrupted) and fell_at_entry(error):
                return None
            return self._outcome_of(error)
        finally:
            self.over = True
            self.end_children()

    def may_start(self) -> bool:
        """Is the lease young enough to go without another look at the holds?"""
        batch = self.lease.batch
        age = self._clock() - batch.sent_at
        return age <= START_WITHIN_SECONDS or (batch.again and age <= START_AGAIN_WITHIN_SECONDS)

    def extend(self, seconds: float | timedelta | None) -> None:
        """Move the end of `max_runtime` to `seconds` from now."""
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
            return self._database.lend(self._answer_by)
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
        """Kill what the handler has started and left. Safe from any thread."""
        if self.children is not None:
            self.children.end_all()

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """See Job.transaction. No interrupt falls between the settle and the answer to the COMMIT: what comes too late
        to go on is given up by the connection, and interrupts behind it."""
        refuse_in_child("job.transaction()")
        if self.settled or self.unknown:
            raise RuntimeError("job.transaction() ends the job, so it can be used only once")
        connection = self.connection()
        if connection.info.transaction_status.name != "IDLE":
            # Inside another transaction this would be a savepoint: the settle could still be rolled back.
            raise RuntimeError("job.transaction() can't stand inside another transaction of job.connection")
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
            self.unknown = committing
            if self._database.broken and not self._interrupted and (why := self.why_end()):
                self._interrupted = why
                raise Interrupted(why) from error
            raise
        finally:
            self._arm()

    @property
    def shielded(self) -> bool:
        """Is the main thread where no interrupt may fall: in a COMMIT, or past the handler?"""
        return not self._armed

    @property
    def end_at(self) -> float:
        """When the handler must be interrupted."""
        return min(self.give_up_at, self.runtime_deadline, self._stop.release_at)

    @property
    def give_up_at(self) -> float:
        """When the lease, not renewed, is too close to its end to go on; never once the job is settled."""
        return math.inf if self.settled else self.lease_deadline - self.kind.margin

    def _answer_by(self) -> float:
        """Until when a call on the handlers' connection may wait: until shortly before the dead man, and so that what
        no interrupt ends (a settle, a COMMIT, a ROLLBACK) doesn't outlast max_runtime by much either."""
        if self.settled:
            return math.inf
        by = self.lease_deadline - self.kind.margin * ANSWER_MARGIN
        return by if self._armed else min(by, self.runtime_deadline + SETTLE_SECONDS)

    @property
    def dead_man_at(self) -> tuple[float, float]:
        """When the process must be ended at the latest, and by how much earlier that may be: so long that a batch, and
        some more, pass under one arming. No earlier for a run that is long: it may have to do without a renewal until
        it is interrupted."""
        slack = self.kind.lease_timeout / 4 if self._clock() - self.started_at < LONG_SECONDS else 0.0
        return self.lease_deadline - self.kind.margin * DEAD_MAN_MARGIN, slack

    def why_end(self) -> str | None:
        """Why the handler must be interrupted now: lost, stop or runtime; None if it may go on."""
        now = self._clock()
        if (self.lost and not self.settled) or now >= self.give_up_at:
            return "lost"
        if now >= self._stop.release_at:
            return "stop"
        if now >= self.runtime_deadline:
            return "runtime"
        return None

    def interrupt_if_due(self) -> None:
        """In the main thread, from the alarm's signal handler: raise Interrupted in the handler's frame if need be."""
        if not self._armed:
            return
        why = self.why_end()
        if why is None:
            self._arm()
            return
        self._interrupted = why
        self._alarm(self._clock() + INTERRUPT_AGAIN_SECONDS)
        raise Interrupted(why)

    def interrupted_outcome(self, why: str, stood: str) -> Outcome:
        """What an interrupt for this reason comes to. `stood`: the handler's stack at that moment."""
        if why == "stop":
            return Outcome(How.RELEASED, "released: the worker stops")
        if why == "lost" and self.lost:
            return Outcome(How.LEASE_LOST, "given up: the lease was lost")
        # A control thread that was starved of the interpreter may have asked in the last moment before this.
        asked_at = self.asked_at  # once: that thread may be answered just now
        waited = 0.0 if asked_at is None else self._clock() - asked_at
        if why == "lost" and (self.unreachable or waited > self.kind.lease_timeout / 10):
            because = "the database is away" if self.unreachable else "the database didn't do it in time"
            return Outcome(How.LEASE_LOST, f"given up: the lease could not be renewed, {because}")
        if why == "lost":
            # Nobody refused and nobody was asked: the control thread got no turn. That is the handler's doing, and
            # costs it an attempt, or it would come back for ever.
            reason = "interrupted: it held the interpreter for so long that its lease nearly ended"
            return self._failed_attempt(storable(f"{reason}\n{stood}".rstrip()))
        ran = self._clock() - self.started_at
        reason = f"interrupted after {ran:.1f} s: longer than max_runtime ({self.kind.max_runtime:g} s)"
        if self.runtime_deadline != self.started_at + self.kind.max_runtime:
            reason = f"interrupted after {ran:.1f} s: longer than it had asked for by job.extend()"
        return self._failed_attempt(storable(f"{reason}\n{stood}".rstrip()))

    def _arm(self) -> None:
        self._armed = True
        # Once interrupted, leave the handler some time to clean up before it is interrupted again.
        self._alarm(self._clock() + INTERRUPT_AGAIN_SECONDS if self._interrupted else self.end_at)

    def _outcome_of(self, error: BaseException) -> Outcome:
        if self.settled:
            log.warning("job %d raised after it had settled itself as ok", self.lease.id, exc_info=error)
            return OK
        if self._interrupted and (interrupt := interrupt_behind(error)):
            return self.interrupted_outcome(self._interrupted, stood_at(interrupt))
        if isinstance(error, LeaseLost):
            return Outcome(How.LEASE_LOST, as_text(error))
        self.connection_broke = self._database.broken
        if isinstance(error, Permanent):
            return Outcome(How.FAILED, as_text(error))
        if isinstance(error, RetryAfter):
            return self._failed_attempt(as_text(error), error.seconds)
        if isinstance(error, NotNow):
            return Outcome(How.RELEASED, as_text(error), error.seconds)
        if not self.connection_broke and any(self._is_short(each) for each in chain(error)):
            self.short = as_text(error)
            return Outcome(How.RELEASED, f"not now: {self.short}", short_delay())
        return self._failed_attempt(as_text(error, trace=True))

    def _is_short(self, error: BaseException) -> bool:
        """Is it no fault of the job: for want of connections, memory or disk, on either side?"""
        sqlstate = getattr(error, "sqlstate", None)
        if error is self._refused:
            # A connection that can't be opened has no SQLSTATE. A refused settle is a fault, unless that passes.
            passes = meaning(sqlstate) in (Meaning.LOST, Meaning.SHORT, Meaning.PASSING)
            return passes or no_day(error)
        if isinstance(error, OSError):
            return error.errno in _SHORT_OF or (error.errno == errno.EAGAIN and came_from_fork(error))
        return sqlstate is not None and (meaning(sqlstate) is Meaning.SHORT or sqlstate == "57P03")

    def _failed_attempt(self, text: str, delay: float | None = None) -> Outcome:
        most = self.kind.max_attempts if self.lease.max_attempts is None else self.lease.max_attempts
        if self.lease.attempt >= most:
            return Outcome(How.FAILED, text)
        if delay is None:
            try:
                delay = jittered(max(0.0, float(self.kind.backoff(self.lease.attempt))), random.random())  # noqa: S311
            except Exception as error:  # noqa: BLE001 (the backoff is the handler's author's code as well)
                return Outcome(How.FAILED, f"{text}\nand its backoff raised {as_text(error)}")
        return Outcome(How.RETRY, text, min(delay, 365 * 86400.0))


def short_delay() -> float:
    """Seconds for which a job is left alone that could not run for want of something."""
    return jittered(SHORT_SECONDS, random.random())  # noqa: S311
