"""Did each ramp let through no more than it should? Pure.

What starts beside a ramp was leased under it, because a ramp begins only behind a barrier. Against the limits two sorts
of runs do not count: those that a crash of the database may have made it forget, and those that had waited for their
start, because nobody knows when they were leased.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from torture.allowed import CLOCKS, Allowed, stood_still
from torture.evidence import Ended, Evidence, Ramp, Run
from torture.verdict import Violation

BAD = ("retry", "failed", "poison", "crashed")
YOUNG = 0.8  # a job starts within that after its lease query, or after one more look at the holds
COMMITTED = 2.0  # a row of the history, and what its transaction says to the ramp, can be seen so much later
LIVES = 30.0  # a worker counts as living for so long after its last beat


class Ramps:
    """The promises about ramps, checked against one run. `explained` counts the explained cases."""

    def __init__(self, evidence: Evidence, explained: Counter[str]) -> None:
        self._evidence = evidence
        self._explained = explained
        self._allowed = Allowed(evidence)
        self._ended = {(row.job, row.token): row for row in evidence.ended}

    def ramps(self) -> Iterator[Violation]:
        """See the module."""
        for ramp in self._evidence.ramps:
            runs = [
                run
                for run in self._evidence.runs
                if run.kind == ramp.kind
                and ramp.since < run.started < ramp.until
                and run.started - run.age > ramp.since
                and not self._allowed.forgotten(run)
            ]
            fresh = [run for run in runs if not run.again]
            for what in (*self._canary(ramp, fresh), *self._rate(ramp, fresh), *self._steps(ramp, fresh)):
                yield Violation("ramp", what)
            for kind, at in self._evidence.stops:
                if kind == ramp.kind and ramp.since < at < ramp.until:
                    yield from self._stopped(ramp, runs, at)

    def _canary(self, ramp: Ramp, runs: Sequence[Run]) -> Iterator[str]:
        """Until so many are ok, no more are at work. After one that is not ok, none is leased."""
        if ramp.canary is None:
            return
        for run in runs:
            before = [self._row(each) for each in runs if each.started <= run.started]
            over = [row for row in before if row is not None and row.at < run.started + CLOCKS]
            ok = sum(row.outcome == "ok" for row in over)
            if ok >= ramp.canary:
                return
            if (count := ok + len(before) - len(over)) > ramp.canary:
                yield f"{run} was number {count} of a canary of {ramp.canary}"
            bad = min((row.at for row in over if row.outcome in BAD), default=math.inf)
            if run.started - run.age > bad + COMMITTED:
                yield f"{run} was leased {run.started - run.age - bad:.3f} s after a canary had failed"

    def _rate(self, ramp: Ramp, runs: Sequence[Run]) -> Iterator[str]:
        """In each window from a lease query to a start there are no more leases than the rate allows."""
        if ramp.rate is None:
            return
        over = ramp.until
        if ramp.steps is not None and ramp.every is not None:
            over = min(over, ramp.since + ramp.every * len(ramp.steps))  # or later, if there is a canary
        limited = [run for run in runs if run.started < over]
        windows = [(ramp.since, 1.0), *((run.started - run.age, max(ramp.rate, 1.0)) for run in limited)]
        for since, burst in windows:
            inside = [run for run in limited if run.started - run.age >= since]
            for count, run in enumerate(inside, 1):
                if count > burst + ramp.rate * (run.started - since + CLOCKS):
                    yield f"{run} was number {count} in {run.started - since:.3f} s at a rate of {ramp.rate:g}/s"
                    return

    def _steps(self, ramp: Ramp, runs: Sequence[Run]) -> Iterator[str]:
        """No more workers than the step allows have jobs of the kind at once."""
        if ramp.steps is None or ramp.every is None:
            return
        for run in runs:
            step = int((run.started - ramp.since) / ramp.every)  # or an earlier one, if there is a canary
            if step >= len(ramp.steps):
                return
            since = run.started - run.age - LIVES
            living = sum(each.started < run.started and each.exited > since for each in self._evidence.processes)
            at_work = {
                id(each.process)
                for each in runs
                if each.started <= run.started and not ((row := self._row(each)) and row.at < run.started + CLOCKS)
            }
            if len(at_work) > max(1, math.ceil(living * ramp.steps[step] / 100)):
                yield f"{run} made it {len(at_work)} workers at {ramp.steps[step]} % of at most {living}"

    def _stopped(self, ramp: Ramp, runs: Sequence[Run], at: float) -> Iterator[Violation]:
        """Nothing starts after a ramp stopped, and something had failed."""
        self._explained["ramps that stopped, because jobs failed"] += 1
        if not any(
            row.kind == ramp.kind and row.outcome in BAD and ramp.since - CLOCKS < row.at < at + CLOCKS
            for row in self._evidence.ended
        ):
            yield Violation("ramp", f"the ramp of {ramp.kind} stopped at {at:.3f}, and nothing had failed")
        for run in runs:
            if run.started > at + YOUNG + CLOCKS and not stood_still(run, at):
                yield Violation("ramp", f"{run} began {run.started - at:.3f} s after its ramp had stopped")

    def _row(self, run: Run) -> Ended | None:
        return self._ended.get((run.job, run.token))
