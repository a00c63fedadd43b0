"""Small logs and tables, written by hand: what a run would leave after these events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from torture.checker import check
from torture.gather import gather
from torture.records import Record
from torture.verdict import Verdict

# The database's clock in these stories.
AHEAD = 1000.0
LEASES = {"torture.slow": 3.0, "torture.effect": 4.0, "torture.long": 300.0}


class Story:
    """Times are seconds of the monotonic clock. Each method adds one event, and returns the story."""

    def __init__(self) -> None:
        self._stage: list[Record] = []
        self._enqueuer: list[Record] = []
        self._handlers: dict[int, list[Record]] = {}  # by slot
        self._tables: dict[str, list[Record]] = {"jobs": [], "history": [], "changes": [], "stops": [], "effects": []}
        self.told(0, "run", seed=1, seconds=60, postgres="15.0", leases=LEASES, only=[])
        self.told(0, "clocks", ahead=AHEAD)
        self.told(0, "begin", proxied=[1])

    def told(self, at: float, what: str, **facts: Any) -> Self:
        """A line of the stage's own log."""
        self._stage.append({"at": at, "what": what, **facts})
        return self

    def worker(self, slot: int, at: float = 1.0, unit: str | None = None) -> Self:
        """A worker starts; its pid is 100 + slot, its host `h`."""
        self._handlers[slot] = [{"at": at + 0.1, "what": "born", "pid": 100 + slot, "slot": str(slot), "host": "h"}]
        return self.told(at, "started", slot=slot, pid=100 + slot, grace=3, unit=unit, threshold=10)

    def signal(self, slot: int, at: float, name: str) -> Self:
        """It is sent a signal."""
        return self.told(at, "signal", slot=slot, pid=100 + slot, signal=name)

    def exit(self, slot: int, at: float, code: int, last_words: str = "") -> Self:
        """It ends."""
        return self.told(at, "exit", slot=slot, pid=100 + slot, code=code, ready=True, last_words=last_words)

    def asked(self, key: str, kind: str = "torture.external", way: str = "call", *, answered: bool = True) -> Self:
        """A job is enqueued."""
        self._enqueuer.append({"at": 2.0, "what": "asked", "way": way, "kind": kind, "keys": [key]})
        if answered:
            self._enqueuer.append({"at": 2.1, "what": "committed", "keys": [key], "jobs": [0]})
        return self

    def ran(
        self,
        job: int,
        at: float,
        until: float | None,
        *,
        kind: str = "torture.external",
        how: str = "ok",
        slot: int = 0,
        token: str = "t1",
        says: Sequence[float] = (),
        again: bool = False,
    ) -> Self:
        """A run. Its key is `k<job>`. Without an end it was cut off. `says`: when the handler said that it runs."""
        lines = self._handlers[slot]
        same = {"job": job, "token": token}
        lines.append(
            {
                "at": at,
                "what": "start",
                **same,
                "key": f"k{job}",
                "kind": kind,
                "attempt": 1,
                "age": 0.01,
                "again": again,
            }
        )
        lines += [{"at": each, "what": "alive", **same} for each in says]
        if until is not None:
            lines.append({"at": until, "what": "end", **same, "how": how})
        return self

    def ended(
        self,
        job: int,
        at: float,
        outcome: str = "ok",
        *,
        kind: str = "torture.external",
        slot: int = 0,
        token: str = "t1",
        error: str | None = None,
    ) -> Self:
        """A row of the history. Only the row that ends the job's life has the key."""
        row = {"job": job, "kind": kind, "outcome": outcome, "attempts": 1, "leased_by": f"h:{100 + slot}"}
        key = f"k{job}" if outcome in ("ok", "completed", "discarded") else None
        self._tables["history"].append({**row, "at": at + AHEAD, "error": error, "key": key, "token": token})
        return self

    def lives(self, job: int, state: str, *, kind: str = "torture.external", error: str = "an error") -> Self:
        """A row of jobs, at the end."""
        row = {"job": job, "kind": kind, "state": state, "key": f"k{job}", "attempts": 1, "crashes": 0}
        self._tables["jobs"].append({**row, "last_error": error})
        return self

    def changed(
        self, job: int, at: float, action: str, *, gone: bool = False, back: bool = False, accepted: bool = False
    ) -> Self:
        """An entry of the audit record."""
        same = {"job": job, "action": action, "at": at + AHEAD}
        self._tables["changes"].append({**same, "gone": gone, "back": back, "accepted": accepted})
        return self

    def ended_by_hand(self, job: int, at: float, outcome: str = "discarded", *, kind: str = "torture.external") -> Self:
        """An operator ends a job, and the audit record says so."""
        action = {"completed": "complete", "discarded": "discard"}[outcome]
        return self.ended(job, at, outcome, kind=kind, token="").changed(job, at, action, gone=True)

    def effect(self, job: int) -> Self:
        """A row of torture_effects."""
        self._tables["effects"].append({"key": f"k{job}", "job": job, "token": "t1"})
        return self

    def barrier(self, since: float, until: float, scope: str = "fleet", target: str = "", **facts: Any) -> Self:
        """A hold with its barrier and its end."""
        self.told(since, "barrier", hold=f"{scope} {since}", scope=scope, target=target, **facts)
        return self.told(until, "resume", hold=f"{scope} {since}")

    def ramp(self, since: float, until: float, kind: str = "torture.external", **limits: Any) -> Self:
        """A kind is resumed in steps, and something ends that."""
        limits = dict.fromkeys(("canary", "steps", "every", "rate")) | limits
        self.told(since, "ramp", ramp=f"ramp {since}", kind=kind, **limits).told(
            since + 0.01, "ramped", ramp=f"ramp {since}"
        )
        return self.told(until, "ramp over", ramp=f"ramp {since}")

    def ramp_stopped(self, at: float, kind: str = "torture.external") -> Self:
        """The audit record says that a ramp stopped, because jobs failed."""
        self._tables["stops"].append({"kind": kind, "at": at + AHEAD})
        return self

    def sample(self, at: float, *, due: list[int] = (), expired: list[Any] = (), idle: int = 1) -> Self:  # type: ignore[assignment]
        """What the sampler saw."""
        return self.told(at, "sample", due=list(due), expired=list(expired), idle=idle, states={})

    def verdict(self, logs: Path) -> Verdict:
        """Write all of it as a run would, read it as the checker does, and judge."""
        self.told(300.0, "clocks", ahead=AHEAD)
        self._stage.sort(key=lambda record: record["at"])
        roles = {"stage-1-1": self._stage, "enqueuer-1-1": self._enqueuer}
        roles |= {f"handlers-{100 + slot}-1": lines for slot, lines in self._handlers.items()}
        for name, records in roles.items():
            (logs / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
        return check(gather(logs, self._tables))


def a_good_day() -> Story:
    """Two workers, and three jobs that ran once; one has an effect. Both workers stop when they are told to."""
    story = Story().worker(0, unit="u@0").worker(1, unit="u@1")
    for slot in (0, 1):
        story.signal(slot, 200.0, "SIGTERM").exit(slot, 201.0, 0)
    story.asked("k1").ran(1, 3.0, 3.1).ended(1, 3.11)
    story.asked("k2", "torture.effect").ran(2, 4.0, 4.1, kind="torture.effect").ended(2, 4.09, kind="torture.effect")
    story.effect(2)
    return story.asked("k3").ran(3, 5.0, 5.1, slot=1).ended(3, 5.11, slot=1)
