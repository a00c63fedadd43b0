"""What a run left behind, in the checker's words. Made from the logs and the tables, without any code of the product.

All moments are on the machine's monotonic clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture.records import Record, read


@dataclass
class Process:
    """One worker process. `signals`: what it was sent, and when. `stops`: while it was stopped."""

    pid: int
    slot: int
    started: float
    grace: float = 3.0
    unit: str | None = None
    host: str = ""
    exited: float = math.inf
    code: int | None = None
    ready: bool = True
    last_words: str = ""
    signals: list[tuple[float, str]] = field(default_factory=list)
    stops: list[tuple[float, float]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"worker {self.pid} of slot {self.slot}"

    def sent(self, name: str) -> float | None:
        """When it was sent this signal first."""
        return next((at for at, signal in self.signals if signal == name), None)


@dataclass
class Run:
    """One run of one handler. `how`: ok, or the name of what it raised; None if it was cut off."""

    job: int
    token: str
    key: str
    kind: str
    attempt: int
    started: float
    process: Process
    ended: float = math.inf
    how: str | None = None
    said: str = ""

    def __str__(self) -> str:
        return f"{self.kind} job {self.job} ({self.key}), started {self.started:.3f} by {self.process}"


@dataclass
class Asked:
    """A job that was asked for. `answered`: the COMMIT was answered."""

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


@dataclass(frozen=True)
class Trouble:
    """While this lasted, the database or the way to it was away. `proxied`: only for workers behind the proxy."""

    sort: str
    since: float
    until: float
    proxied: bool = False


@dataclass(frozen=True)
class Sample:
    """What the sampler saw."""

    at: float
    due: frozenset[int]
    expired: dict[int, float]
    idle: int


@dataclass
class Evidence:
    """All of it."""

    asked: list[Asked] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    live: list[Live] = field(default_factory=list)
    effects: list[tuple[str, int, str]] = field(default_factory=list)  # key, job, token
    barriers: list[Barrier] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    leases: dict[str, float] = field(default_factory=dict)  # kind → lease timeout
    proxied: set[int] = field(default_factory=set)  # slots
    commands: list[tuple[str, int, str]] = field(default_factory=list)  # name, exit code, stderr
    orders: list[Record] = field(default_factory=list)  # of operators, for single jobs
    faults: list[Record] = field(default_factory=list)
    facts: Record = field(default_factory=dict)  # seed, seconds, PostgreSQL version


class _Clocks:
    """The database's clock, which is the machine's, on the monotonic clock; it may have been slewed meanwhile."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._points = [(record["at"] + record["ahead"], record["at"]) for record in records]

    def monotonic(self, real: float) -> float:
        (real_0, at_0), (real_1, at_1) = self._points[0], self._points[-1]
        if real_1 == real_0:
            return at_0 + real - real_0
        return at_0 + (real - real_0) * (at_1 - at_0) / (real_1 - real_0)


def gather(logs: Path, tables: dict[str, list[dict[str, Any]]]) -> Evidence:
    """Read everything."""
    stage = [record for records in read(logs, "stage") for record in records]
    clocks = _Clocks(record for record in stage if record["what"] == "clocks")
    evidence = Evidence(processes=_processes(stage))
    _read_stage(evidence, stage)
    for records in read(logs, "enqueuer"):
        evidence.asked += _asked(records)
    for records in read(logs, "handlers"):
        evidence.runs += _runs(records, evidence.processes)
    evidence.runs.sort(key=lambda run: run.started)
    evidence.ended = [Ended(**{**row, "at": clocks.monotonic(row["at"])}) for row in tables["history"]]
    evidence.live = [Live(**row) for row in tables["jobs"]]
    evidence.effects = [(row["key"], row["job"], row["token"]) for row in tables["effects"]]
    return evidence


def _read_stage(evidence: Evidence, stage: Sequence[Record]) -> None:
    last = stage[-1]["at"]
    for record in stage:
        what = record["what"]
        if what == "run":
            evidence.facts, evidence.leases = record, record["leases"]
        elif what == "begin":
            evidence.proxied = set(record["proxied"])
        elif what == "command":
            evidence.commands.append((record["command"], record["code"], record["said"]))
        elif what == "release-dead":
            evidence.commands.append(("release-dead", record["code"], ""))
        elif what == "sample":
            expired = {int(job): float(seconds or 0) for job, seconds in record["expired"]}
            evidence.samples.append(Sample(record["at"], frozenset(record["due"]), expired, record["idle"]))
        elif what == "job":
            evidence.orders.append(record)
        elif what == "fault":
            evidence.faults.append(record)
    evidence.barriers = _barriers(stage, last)
    evidence.troubles = _troubles(stage, last)


def _processes(stage: Sequence[Record]) -> list[Process]:
    found: list[Process] = []
    current: dict[int, Process] = {}  # by slot
    for record in stage:
        if record["what"] == "started":
            process = Process(record["pid"], record["slot"], record["at"], record["grace"], record["unit"])
            current[process.slot] = process
            found.append(process)
        elif record["what"] == "signal":
            current[record["slot"]].signals.append((record["at"], record["signal"]))
        elif record["what"] == "exit":
            process = current[record["slot"]]
            process.exited, process.code = record["at"], record["code"]
            process.ready, process.last_words = record["ready"], record["last_words"]
    for process in found:
        process.stops = _stops(process)
    return found


def _stops(process: Process) -> list[tuple[float, float]]:
    stops, since = [], None
    for at, signal in process.signals:
        if signal == "SIGSTOP" and since is None:
            since = at
        elif signal == "SIGCONT" and since is not None:
            stops.append((since, at))
            since = None
    return [*stops, (since, process.exited)] if since is not None else stops


def _barriers(stage: Sequence[Record], last: float) -> list[Barrier]:
    resumed = {record["hold"]: record["at"] for record in stage if record["what"] == "resume"}
    return [
        Barrier(each["scope"], each["target"], each["at"], resumed.get(each["hold"], last), each.get("pid"))
        for each in stage
        if each["what"] == "barrier"
    ]


def _troubles(stage: Sequence[Record], last: float) -> list[Trouble]:
    found: list[Trouble] = []
    open_since: dict[str, tuple[float, str]] = {}
    for record in stage:
        at, what = record["at"], record["what"]
        if what == "cut":
            found.append(Trouble(f"cut {record['how']}", at, at + record["seconds"], proxied=True))
        elif what == "backends":
            found.append(Trouble(f"{record['how']} backends", at, at))
        elif what == "late":
            found.append(Trouble("late", record["since"], at))
        elif what in ("down", "burn"):
            open_since[what] = (at, record.get("how", ""))
        elif what in ("up", "burnt"):
            begin = "down" if what == "up" else "burn"
            since, how = open_since.pop(begin)
            found.append(Trouble(f"{begin} {how}".strip(), since, at))
    found += [Trouble(f"{what} {how}".strip(), since, last) for what, (since, how) in open_since.items()]
    return sorted(found, key=lambda trouble: trouble.since)


def _asked(records: Sequence[Record]) -> list[Asked]:
    found: dict[str, Asked] = {}
    for record in records:
        if record["what"] == "asked":
            for key in record["keys"]:
                found[key] = Asked(key, record["kind"], record["way"], record["at"])
        elif record["what"] == "committed":
            for key in record["keys"]:
                found[key].answered = True
    return list(found.values())


def _runs(records: Sequence[Record], processes: Sequence[Process]) -> list[Run]:
    if not records:
        return []
    born = records[0]
    # The pid may have come back: it is the process of that slot that was the last to be started before.
    mine = [process for process in processes if process.slot == int(born["slot"])]
    process = mine[bisect_right([each.started for each in mine], born["at"]) - 1]
    process.host = born["host"]
    found: list[Run] = []
    current: Run | None = None
    for record in records[1:]:
        if record["what"] == "start":
            current = Run(
                record["job"], record["token"], record["key"], record["kind"], record["attempt"], record["at"], process
            )
            found.append(current)
        elif record["what"] == "end" and current is not None and current.job == record["job"]:
            current.ended, current.how, current.said = record["at"], record["how"], record.get("said", "")
    return found
