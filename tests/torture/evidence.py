"""What a run left, in the words of the checker. gather.py makes it from the logs and the tables. All times are on the
machine's monotonic clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torture.records import Record

FAILED_BY_HAND = "the torture run says so"  # the error of a job that an operator failed


@dataclass
class Process:
    """One worker process. `signals`: the signals that it was sent, and when. `stops`: the times in which it was
    stopped. `slow`: the times in which it had only a small share of a processor."""

    pid: int
    slot: int
    started: float
    grace: float = 3.0
    unit: str | None = None
    threshold: float = 10.0  # a sweep may take its jobs when it was silent for so long
    host: str = ""
    exited: float = math.inf
    code: int | None = None
    ready: bool = True
    last_words: str = ""
    signals: list[tuple[float, str]] = field(default_factory=list)
    stops: list[tuple[float, float]] = field(default_factory=list)
    slow: list[tuple[float, float]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"worker {self.pid} of slot {self.slot}"

    def sent(self, name: str) -> float | None:
        """When it was first sent this signal."""
        return next((at for at, signal in self.signals if signal == name), None)


@dataclass
class Run:
    """One run of one handler. `how`: ok, or the name of the exception; None if it was cut off."""

    job: int
    token: str
    key: str
    kind: str
    attempt: int
    started: float
    process: Process
    age: float  # how long before its start its lease query was sent
    again: bool  # or, for a job that had waited for its start, one more look at the holds
    ended: float = math.inf
    how: str | None = None
    said: str = ""
    alive: float = 0.0  # the last moment at which the handler surely ran

    def __str__(self) -> str:
        return f"{self.kind} job {self.job} ({self.key}), started {self.started:.3f} by {self.process}"


@dataclass
class Asked:
    """A job that an enqueuer sent. `answered`: the COMMIT got an answer."""

    key: str
    kind: str
    way: str
    at: float
    answered: bool = False


@dataclass(frozen=True)
class Ended:
    """A row of job_history: how a lease ended."""

    job: int
    kind: str
    outcome: str
    attempts: int
    leased_by: str | None
    at: float
    error: str | None = None
    key: str | None = None
    token: str | None = None


@dataclass(frozen=True)
class Change:
    """What the audit record says of one job. `gone`: the change ended it; `back`: it is in the queue again. `accepted`:
    the operator said that it may run a second time."""

    job: int
    action: str
    at: float
    gone: bool = False
    back: bool = False
    accepted: bool = False


@dataclass(frozen=True)
class Live:
    """A row of jobs, at the end."""

    job: int
    kind: str
    state: str
    key: str | None
    attempts: int = 0
    crashes: int = 0
    last_error: str | None = None


@dataclass(frozen=True)
class Barrier:
    """A hold that was certain from `since` until `until`. `pid`: of the worker whose hold it is."""

    scope: str
    target: str
    since: float
    until: float
    pid: int | None = None
    idle: float | None = None  # when `--wait` said that nothing of the scope runs any more

    def covers(self, run: Run) -> bool:
        """Is the run in this scope?"""
        return {
            "fleet": True,
            "kind": run.kind == self.target,
            "host": run.process.host == self.target,
            "unit": run.process.unit == self.target,
            "worker": run.process.pid == self.pid,
        }[self.scope]


@dataclass(frozen=True)
class Ramp:
    """A kind was resumed in steps, behind a barrier. It was sent at `since`; what ended it was sent at `until`."""

    kind: str
    since: float
    until: float
    canary: int | None = None
    steps: list[int] | None = None
    every: float | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Trouble:
    """During this time the database, or the line to it, was away. `proxied`: only for workers behind a proxy. `slot`:
    only for the worker of this slot."""

    sort: str
    since: float
    until: float
    proxied: bool = False
    slot: int | None = None


@dataclass(frozen=True)
class Sample:
    """What the sampler saw."""

    at: float
    due: frozenset[int]
    expired: dict[int, float]
    idle: int


@dataclass
class Evidence:
    """The evidence of one run."""

    asked: list[Asked] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    live: list[Live] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    effects: list[tuple[str, int, str]] = field(default_factory=list)  # key, job, token
    barriers: list[Barrier] = field(default_factory=list)
    ramps: list[Ramp] = field(default_factory=list)
    stops: list[tuple[str, float]] = field(default_factory=list)  # kind, when its ramp stopped because jobs failed
    troubles: list[Trouble] = field(default_factory=list)
    # job → the times in which its row was locked
    locks: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    leases: dict[str, float] = field(default_factory=dict)  # kind → lease timeout
    proxied: set[int] = field(default_factory=set)  # slots
    commands: list[tuple[str, int, str]] = field(default_factory=list)  # name, exit code, stderr
    orders: list[Record] = field(default_factory=list)  # the changes of single jobs by operators
    faults: list[Record] = field(default_factory=list)
    facts: Record = field(default_factory=dict)  # seed, seconds, PostgreSQL version
