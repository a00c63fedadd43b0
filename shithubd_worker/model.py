"""The words: the states of a job, how a lease ends, and what a worker knows of a job that it leased."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

# The first and the last time that Python knows. A table can hold others.
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)

LONGEST_KIND = 200
# No kind has these: control characters (of C0 and C1), and halves of a character.
_NOT_IN_A_KIND = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_kind(kind: object) -> None:
    """Raise ValueError or TypeError if this can't be the name of a kind. The database has the same rule."""
    if not isinstance(kind, str):
        raise TypeError(f"a kind must be a string, not {type(kind).__name__}")
    if not 1 <= len(kind) <= LONGEST_KIND or _NOT_IN_A_KIND.search(kind):
        raise ValueError(f"kind {kind!r}: a kind has 1 to {LONGEST_KIND} characters, and no control character")


def moment(seconds: float) -> datetime:
    """A time in seconds since 1970, as the nearest that Python knows. `seconds` may be infinite."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):
        return FIRST if seconds < 0 else LAST


class State(StrEnum):
    """The state of a row of `jobs`. A finished job has no row there: it is in `job_history`."""

    QUEUED = "queued"
    PROCESSING = "processing"
    PAUSED = "paused"
    FAILED = "failed"


# What a list of jobs can select: a state, or one of three words for some jobs of it (job_condition_v1).
LISTED = ("queued", "ready", "scheduled", "held", "processing", "paused", "failed")


class How(StrEnum):
    """How a lease ended. The worker that holds the lease settles the first five. The last two mean that somebody else
    ended it."""

    OK = "ok"
    RETRY = "retry"  # the attempt failed, and there are attempts left
    FAILED = "failed"  # Permanent, or the attempts are used up
    POISON = "poison"  # the payload doesn't fit the handler, or the third crash
    RELEASED = "released"  # given back before it was done; costs no attempt
    CRASHED = "crashed"  # its owner died, or the lease expired; counted in `crashes`, not in `attempts`
    LEASE_LOST = "lease_lost"  # its owner came back too late; the database wrote nothing of its run


class WorkerState(StrEnum):
    """What a worker is doing, in one word. Its beats, its metrics and its endpoint show it."""

    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"  # inside a handler
    HELD = "held"  # held, and nothing runs
    PAUSING = "pausing"  # the database or the machine refuses
    RECONNECTING = "reconnecting"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt. `delay_seconds` counts for RETRY, and for RELEASED if it isn't 0. `error` is for
    people."""

    how: How
    error: str | None = None
    delay_seconds: float = 0.0


# Given back before it ran. It has no error: the row keeps the error of the run before, and the history gets no row.
NOT_STARTED = Outcome(How.RELEASED)


class Batch(NamedTuple):
    """What the leases of one query share.

    `sent_at` is a time of this process's monotonic clock, taken before the query was sent. So each deadline that is
    counted from it lies before the database's own. `now` is the database's clock, in seconds since 1970. `again` is
    true if the query was the second look at the holds (start_v1), not the lease itself.
    """

    token: str
    sent_at: float
    now: float
    again: bool = False


class Lease(NamedTuple):
    """The right to run one job, until its kind's lease timeout after `batch.sent_at`.

    `payload` is the JSON text as stored, or None if the lease's answer left it out. The attempt parses it, so a payload
    that Python can't read is a fault of the job, not of the worker. `attempt` counts from 1. `max_attempts` is None if
    the kind's value counts. `run_at` is in seconds since 1970.
    """

    id: int
    kind: str
    payload: str | None
    attempt: int
    max_attempts: int | None
    crashes: int  # more than 0: the worker leases the job alone
    priority: int
    run_at: float
    batch: Batch

    @property
    def token(self) -> str:
        """The token that fences every write of the lease's owner."""
        return self.batch.token

    @property
    def sent_at(self) -> float:
        """When the lease query was sent, on the monotonic clock; taken just before."""
        return self.batch.sent_at


class Past(NamedTuple):
    """What a lease doesn't carry, because few handlers ask for it: when the job was added, and the error of its last
    run."""

    created_at: datetime
    last_error: str | None


class Finished(NamedTuple):
    """A lease that is to be settled: how it ended, its retention class, and how many seconds it ran (0: it never
    started)."""

    lease: Lease
    outcome: Outcome
    retention: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Scope:
    """What a hold covers: the fleet (target ''), a host, a unit, a worker (its uuid) or a kind."""

    scope: str
    target: str = ""

    def __str__(self) -> str:
        return "the fleet" if self.scope == "fleet" else f"{self.scope} {self.target}"


@dataclass(frozen=True, slots=True)
class Hold:
    """What a worker knows of a hold that covers it, or that covers one of its kinds. Scope explains the first two
    fields."""

    scope: str
    target: str
    reason: str | None
    actor: str

    def __str__(self) -> str:
        what = self.scope if not self.target else f"{self.scope} {self.target}"
        return f"{what} held by {self.actor}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process this is. It is enough to prove later, on the same host, that the process is dead; see
    host.identity."""

    id: UUID
    host: str
    pid: int
    machine_id: str
    boot_id: str
    pid_namespace: int
    start_ticks: int
    unit: str | None
    invocation_id: str | None

    @property
    def leased_by(self) -> str:
        """`<host>:<pid>`, as the runbooks write it."""
        return f"{self.host}:{self.pid}"


class Registration(NamedTuple):
    """What a worker writes into its row. `gives_up`: after how many seconds without a word of the database it gives up
    its run, so that a sweep may take its jobs. None: it promises nothing."""

    identity: Identity
    kinds: Sequence[str]
    gives_up: float | None = None
