"""Was every hold certain when its barrier said so? Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator

from torture.allowed import CLOCKS, Allowed, stood_still
from torture.check_jobs import UNTOLD
from torture.evidence import Barrier, Ended, Evidence, Run
from torture.verdict import Violation

LONGEST = 120.0  # no handler runs for longer than this


class Holds:
    """The promises about holds, checked against one run. `explained` counts the explained cases."""

    def __init__(self, evidence: Evidence, explained: Counter[str]) -> None:
        self._barriers = evidence.barriers
        self._runs = evidence.runs
        self._starts = [run.started for run in evidence.runs]
        self._explained = explained
        self._allowed = Allowed(evidence)
        self._ended: dict[int, list[Ended]] = defaultdict(list)
        for row in evidence.ended:
            self._ended[row.job].append(row)

    def barriers(self) -> Iterator[Violation]:
        """Nothing of a scope starts while its barrier holds, and nothing runs after `--wait` has returned."""
        for barrier in self._barriers:
            scope = f"{barrier.scope} {barrier.target}".rstrip()
            for run in self._started(barrier, barrier.since, barrier.until):
                if stop := stood_still(run, barrier.since):
                    length = "less than 0.5 s" if stop < 0.5 else "0.5 s or more"
                    self._explained[f"start behind a barrier: its process had been stopped for {length}"] += 1
                else:
                    late = (run.started - barrier.since) * 1000
                    yield Violation("barrier", f"{run} began {late:.1f} ms behind the barrier of {scope}")
            if barrier.idle is not None:
                for run in self._started(barrier, barrier.idle - LONGEST, barrier.idle):
                    if self._ran_leased(run, barrier.idle):
                        yield Violation("barrier", f"{run} still ran when nothing of {scope} was said to run")

    def _started(self, barrier: Barrier, since: float, until: float) -> Iterator[Run]:
        between = self._runs[bisect_right(self._starts, since) : bisect_left(self._starts, until)]
        return filter(barrier.covers, between)

    def _ran_leased(self, run: Run, at: float) -> bool:
        """Did the run have a lease then? A run that has lost its lease, or has settled itself, may go on for a
        while."""
        if min(run.ended, run.process.exited) <= at or self._allowed.forgotten(run) or run.kind == UNTOLD:
            return False
        return not any(row.token == run.token and row.at <= at + CLOCKS for row in self._ended[run.job])
