"""The words: the states of a job, how a lease ends, and what a worker knows of the job that it leased."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


class State(StrEnum):
    """The state of a row of `jobs`. A finished job has no row: it is in `job_history`."""

    QUEUED = "queued"
    PROCESSING = "processing"
    PAUSED = "paused"
    FAILED = "failed"


class How(StrEnum):
    """How a lease ended. The first five are settled by the worker that held it, the others by somebody else."""

    OK = "ok"
    RETRY = "retry"  # the attempt failed, and there are attempts left
    FAILED = "failed"  # Permanent, or the attempts are used up
    POISON = "poison"  # the payload doesn't fit the handler, or the third crash
    RELEASED = "released"  # given back unfinished; costs no attempt
    CRASHED = "crashed"  # its owner died or let it expire; counted in `crashes`, not in `attempts`
    LEASE_LOST = "lease_lost"  # its owner came back too late; nothing of its run was written


class WorkerState(StrEnum):
    """What a worker is doing, in one word: for its beats, its metrics and its endpoint."""

    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"  # inside a handler
    HELD = "held"  # and at rest
    PAUSING = "pausing"  # the database, or the machine, refuses
    RECONNECTING = "reconnecting"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to. `delay_seconds` counts for RETRY, and for RELEASED if not 0; `error` is for people."""

    how: How
    error: str | None = None
    delay_seconds: float = 0.0


# Given back without having run. It has no error, so the row keeps that of the run before, and the history nothing.
NOT_STARTED = Outcome(How.RELEASED)


class Batch(NamedTuple):
    """What the leases of one query share.

    `sent_at` is on this process's monotonic clock, from before the query was sent, so every end that is counted from
    it lies before the database's own; `now` is the database's clock, in seconds since 1970; `again`: it is the second
    look at the holds, not the lease itself.
    """

    token: str
    sent_at: float
    now: float
    again: bool = False


class Lease(NamedTuple):
    """The right to run one job, until its kind's lease timeout after `batch.sent_at`.

    `payload` is the JSON text as stored: it is parsed inside the attempt, so that a payload that Python can't
    read is a fault of the job, not of the worker; None if it was left out of the lease's answer. `attempt` counts from
    1. `max_attempts` is None for the kind's. `run_at` is in seconds since 1970.
    """

    id: int
    kind: str
    payload: str | None
    attempt: int
    max_attempts: int | None
    crashes: int  # more than 0: leased alone
    priority: int
    run_at: float
    batch: Batch

    @property
    def token(self) -> str:
        """It fences every write of the lease's owner."""
        return self.batch.token

    @property
    def sent_at(self) -> float:
        """Before the lease query was sent, on the monotonic clock."""
        return self.batch.sent_at


class Finished(NamedTuple):
    """A lease that is to be settled: how it ended, how long its class of the history keeps it, how long it ran (0: it
    never started)."""

    lease: Lease
    outcome: Outcome
    retention: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Scope:
    """What a hold is about: the fleet (target ''), a host, a unit, a worker (its uuid) or a kind."""

    scope: str
    target: str = ""

    def __str__(self) -> str:
        return "the fleet" if self.scope == "fleet" else f"{self.scope} {self.target}"


@dataclass(frozen=True, slots=True)
class Hold:
    """What a worker knows of a hold that covers it, or a kind of its; see Scope for the first two."""

    scope: str
    target: str
    reason: str | None
    actor: str

    def __str__(self) -> str:
        what = self.scope if not self.target else f"{self.scope} {self.target}"
        return f"{what} held by {self.actor}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process this is: enough to prove later, on the same host, that it is dead. See host.identity."""

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
        """`<host>:<pid>`, as the runbook knows it."""
        return f"{self.host}:{self.pid}"
