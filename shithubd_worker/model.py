"""The words: the states of a job, how a lease ends, and what a worker knows of the job that it leased."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to. `delay_seconds` counts only for RETRY; `error` is for people."""

    how: How
    error: str | None = None
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one job until `deadline`.

    `payload` is the JSON text as stored: it is parsed inside the attempt, so that a payload that Python can't
    read is a fault of the job, not of the worker. `attempt` counts from 1. `max_attempts` is None for the kind's.
    `sent_at` and `deadline` are on this process's monotonic clock, counted from before the lease query was sent,
    so they lie before the database's own `leased_at` and `lease_expires_at`. `waited_seconds` is the time from
    `run_at` to the lease, by the database's clock.
    """

    id: int
    kind: str
    payload: str
    attempt: int
    max_attempts: int | None
    crashes: int
    waited_seconds: float
    token: UUID
    sent_at: float
    deadline: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that covers somebody: `scope` is fleet, host, unit, worker or kind; `target` is '' for the fleet."""

    scope: str
    target: str
    reason: str | None
    actor: str

    def __str__(self) -> str:
        what = self.scope if not self.target else f"{self.scope} {self.target}"
        return f"{what} held by {self.actor}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process this is: enough to prove later, on the same host, that it is dead. See host.is_dead."""

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
