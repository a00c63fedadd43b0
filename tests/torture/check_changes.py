"""Does the audit record explain each end and each return of a job by an operator? Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from torture.allowed import CLOCKS, Allowed
from torture.evidence import Change, Ended, Evidence, Run
from torture.verdict import Violation

BY_HAND = ("completed", "discarded")
FOR_GOOD = ("ok", *BY_HAND)


class Lives:
    """The ends of each job, and its returns by an undo, in their order."""

    def __init__(self, evidence: Evidence) -> None:
        self.ends: dict[int, list[Ended]] = defaultdict(list)
        for row in evidence.ended:
            if row.outcome in FOR_GOOD:
                self.ends[row.job].append(row)
        self.returns: dict[int, list[float]] = defaultdict(list)
        for change in evidence.changes:
            if change.back:
                self.returns[change.job].append(change.at)

    def end_before(self, job: int, moment: float) -> Ended | None:
        """The end after which the job was not in the queue at this moment."""
        ends = [row for row in self.ends[job] if row.at + CLOCKS < moment]
        back = [at for at in self.returns[job] if at - CLOCKS < moment]
        return ends[-1] if len(ends) > len(back) else None


class Changes:
    """The promises about changes by operators, checked against one run. `explained` counts the explained cases."""

    def __init__(self, evidence: Evidence, explained: Counter[str]) -> None:
        self._evidence = evidence
        self._explained = explained
        self._allowed = Allowed(evidence)
        self._lives = Lives(evidence)
        self._changes: dict[int, list[Change]] = defaultdict(list)
        for change in evidence.changes:
            self._changes[change.job].append(change)
        self._runs: dict[int, list[Run]] = defaultdict(list)
        for run in evidence.runs:
            self._runs[run.job].append(run)
        self._told = {(row.job, row.token) for row in evidence.ended}

    def ends(self) -> Iterator[Violation]:
        """Each end by an operator is in the audit record and in the history, and the job did not run."""
        for job in self._lives.ends.keys() | self._changes.keys():
            rows = [row for row in self._lives.ends[job] if row.outcome in BY_HAND]
            gone = [change for change in self._changes[job] if change.gone]
            if len(rows) != len(gone):
                yield Violation(
                    "operators", f"job {job} was ended {len(rows)} times by hand; the audit record has {len(gone)}"
                )
            for row in rows:
                self._explained[f"{row.outcome}: by an operator"] += 1
                yield from self._running(row)

    def _running(self, row: Ended) -> Iterator[Violation]:
        for run in self._runs[row.job]:
            until = min(run.ended, run.process.exited)
            told = (run.job, run.token) in self._told or self._allowed.forgotten(run)
            if run.started < row.at - CLOCKS and row.at + CLOCKS < until and not told:
                yield Violation("operators", f"{run} was still running when its job was {row.outcome}")

    def returns(self) -> Iterator[Violation]:
        """A job that an undo brought back was gone. It is in the queue, or came to another end."""
        living = {row.job for row in self._evidence.live}
        for job, returns in self._lives.returns.items():
            self._explained["brought back: by an undo"] += len(returns)
            expected = len(returns) + (job not in living)
            if len(self._lives.ends[job]) != expected and not self._untold(job):
                ends = len(self._lives.ends[job])
                where = "is" if job in living else "is not"
                yield Violation(
                    "operators", f"job {job} ended {ends} times, came back {len(returns)} times, and {where} there"
                )

    def _untold(self, job: int) -> bool:
        return any(run.kind == "torture.untold" for run in self._runs[job])
