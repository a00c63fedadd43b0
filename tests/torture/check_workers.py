"""Did the workers return the leases of the dead, lease what can run, and leave as documented? Pure."""

from __future__ import annotations

import re
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator

from torture.allowed import AMNESTY, BACK, BEATS, CLOCKS, STUCK, Allowed
from torture.evidence import Ended, Evidence, Process, Run
from torture.verdict import Violation

DEAD_MAN = signal.SIGVTALRM  # the time within which a handler that holds the interpreter is ended

# The exit codes of docs/exit-codes.md that a command may have here.
COMMAND_CODES = {0, 3, 4, 5, 75}
DATABASE_WAIT = 60.0
LOCKED = 60.0  # the longest time for which a row can have been locked before a stop
STOPPED = 5.0  # the time that a process needs to leave
_SILENT = re.compile(r"^(?:poison: .*)?its worker .* was silent for (\d+) s")
NO_SUCH_JOB = "no job "  # exit 1, as documented; a kind without a history leaves nothing


class Workers:
    """The promises about workers, checked against one run. `explained` counts the explained cases."""

    def __init__(self, evidence: Evidence, explained: Counter[str]) -> None:
        self._evidence = evidence
        self._explained = explained
        self._allowed = Allowed(evidence)
        # The times at which anything happened to a job.
        self._moments: dict[int, list[float]] = defaultdict(list)
        for run in evidence.runs:
            self._moments[run.job].append(run.started)
        for row in evidence.ended:
            self._moments[row.job].append(row.at)

    def stuck(self) -> Iterator[Violation]:
        """The leases of the dead are returned in time, and a job that can run is leased while a worker is idle."""
        for row, process in crashes(self._evidence):
            lease = self._evidence.leases.get(row.kind, 300.0)
            allowed = lease + STUCK
            if row.at - process.exited <= allowed or row.at <= self._allowed.swept_by(process.exited + lease):
                continue
            if (waited := self._untroubled(process.exited, row.at, AMNESTY + BACK)) > allowed:
                what = f"{row.kind} job {row.job} was returned {waited:.1f} s after its worker's death ({row.error})"
                yield Violation("stuck", what)
        told: set[int] = set()
        since: dict[int, float] = {}
        for sample in self._evidence.samples:
            for job, over in sample.expired.items():
                # The quick question comes first, because there are many samples.
                if over <= STUCK or job in told or sample.at <= self._allowed.swept_by(sample.at - over):
                    continue
                if self._untroubled(sample.at - over, sample.at, AMNESTY + BACK) > STUCK:
                    told.add(job)
                    yield Violation("stuck", f"job {job} was still leased {over:.1f} s after its lease had expired")
            since = {job: since.get(job, sample.at) for job in sample.due} if sample.idle else {}
            for job, begin in since.items():
                if job not in told and self._ignored(job, begin, sample.at):
                    told.add(job)
                    what = f"job {job} could run for {sample.at - begin:.1f} s, and workers were idle"
                    yield Violation("stuck", what)

    def silences(self) -> Iterator[Violation]:
        """A sweep takes the jobs of a worker that was silent for as long as it had promised, and of no other. It takes
        them in time."""
        runs = {(run.job, run.token): run for run in self._evidence.runs}
        for row, process in returned(self._evidence):
            if silent := _SILENT.search(row.error or ""):
                if self._allowed.accepted(row):
                    self._explained["swept: an operator accepted a second run"] += 1
                elif why := self._heard(row, process, float(silent[1]), runs.get((row.job, row.token or ""))):
                    yield Violation("swept", f"{row.kind} job {row.job} of {process} was swept: {why}")
                else:
                    self._explained["swept: its worker was silent"] += 1
            since = self._silent_since(row, process)
            if since is not None and row.at > (by := self._allowed.silence_ends(process, since, row.job)):
                what = f"{row.kind} job {row.job} was returned {row.at - since:.1f} s after {process} fell silent"
                yield Violation("stuck", f"{what}, {row.at - by:.1f} s too late ({row.error})")

    def _heard(self, row: Ended, process: Process, seconds: float, run: Run | None) -> str | None:
        if seconds < process.threshold:
            return f"it had been silent for {seconds:g} s, and had promised {process.threshold:g} s"
        if run is not None and not run.again and (lease := row.at - run.started + run.age) < process.threshold - CLOCKS:
            return f"it had leased it {lease:.3f} s before"
        since, until = row.at - process.threshold, min(row.at, process.exited)
        if (heard := self._allowed.untroubled(process, since, until, BACK)) > BEATS:
            return f"nothing had troubled it for {heard:.1f} s"
        return None

    def _silent_since(self, row: Ended, process: Process) -> float | None:
        """Only of leases that last: the others expire before."""
        if self._evidence.leases.get(row.kind, 0.0) <= process.threshold:
            return None
        if process.exited < row.at:
            return process.exited
        cuts = [(each.since, each.until) for each in self._evidence.troubles if each.slot == process.slot]
        return next((begin for begin, end in (*process.stops, *cuts) if begin < row.at < end), None)

    def _untroubled(self, since: float, until: float, after: float) -> float:
        return self._allowed.untroubled(None, since, until, after)

    def _ignored(self, job: int, since: float, until: float) -> bool:
        if until - since <= STUCK or self._untroubled(since, until, BACK) <= STUCK:
            return False
        return not any(since <= at <= until for at in self._moments[job])

    def exits(self) -> Iterator[Violation]:
        """Each worker ended as it was told, with the documented exit code."""
        for process in self._evidence.processes:
            if wrong := self._wrong_exit(process):
                signals = ", ".join(name for _, name in process.signals[-4:]) or "nothing"
                words = " | ".join(process.last_words.strip().splitlines()[-3:])
                yield Violation("exit codes", f"{process}: {wrong}; it was sent {signals}; its last words: {words}")
        for command, code, said in self._evidence.commands:
            if code not in COMMAND_CODES and not (code == 1 and NO_SUCH_JOB in said):
                yield Violation("exit codes", f"shithubd-worker {command} ended with {code}: {said.strip()[-300:]}")

    def _wrong_exit(self, process: Process) -> str | None:
        code, asked = process.code, process.sent("SIGTERM")
        if code is None:
            return "it never ended"
        if code == -9:
            return None if process.sent("SIGKILL") else "killed, and not by this run"
        if code == 0:
            return self._slow_stop(process) if asked is not None else "it left, and nobody had asked it to"
        if why := self._excuse(process):
            self._explained[f"exit {code}: {why}"] += 1
            return None
        return f"exit code {code}" + ("" if asked is None else " after SIGTERM")

    def _slow_stop(self, process: Process) -> str | None:
        """At the end of the grace the job is released; 2 s later the process is ended. A second SIGTERM ends it,
        too."""
        asked = [at for at, name in process.signals if name == "SIGTERM"]
        for at, allowed in zip(asked, (process.grace + 2.0, 2.0), strict=False):
            took = self._allowed.untroubled(process, at, process.exited, BACK)
            if took > allowed + STOPPED:
                return f"it took {took:.1f} s to stop, with a grace of {process.grace:g} s"
        return None

    def _excuse(self, process: Process) -> str | None:
        """What docs/exit-codes.md says about an exit code other than 0, if that was the case."""
        asked, exited = process.sent("SIGTERM"), process.exited
        # At its start a worker waits for the database for a minute. At a stop it may have an outcome that nobody can
        # receive.
        waited = asked is not None or exited - process.started >= DATABASE_WAIT
        since = process.started if asked is None else asked
        if process.code == 75 and waited:
            ran = [run.job for run in self._evidence.runs if run.process is process and run.ended > since - LOCKED]
            if self._allowed.untroubled(process, since, exited, BACK) < 1.0:
                return "the database was away"
            if self._allowed.untroubled(process, since, exited, BACK, ran) < 1.0:
                return "somebody had locked the row of a job that had ended"
        # The dead man's timer, which ends a process before its lease can expire (ARCHITECTURE.md, "Two threads").
        if process.code in (-DEAD_MAN, -signal.SIGSEGV) and " (most recent call first):" in process.last_words:
            if any(end - begin >= 1.0 and exited - end < 5.0 for begin, end in process.stops):
                return "the dead man's timer, after a stop that outlasted the lease"
            if self._allowed.had_processor(process, exited - 6.0, exited) < 5.0:
                return "the dead man's timer, while the processor was away"
        if process.code == 70 and self._allowed.had_processor(process, exited - 6.0, exited) < 5.0:
            return "a handler had no turn to obey its interrupt"
        return None


def crashes(evidence: Evidence) -> Iterator[tuple[Ended, Process]]:
    """The leases that were returned after their owner's death, with the owner."""
    return ((row, process) for row, process in returned(evidence) if process.exited < row.at)


def returned(evidence: Evidence) -> Iterator[tuple[Ended, Process]]:
    """The leases that were taken from their owner, dead or alive, with the owner."""
    by_name = defaultdict(list)
    for process in evidence.processes:
        by_name[f"{process.host}:{process.pid}"].append(process)
    for row in evidence.ended:
        if row.outcome in ("crashed", "poison"):
            owners = [each for each in by_name.get(row.leased_by or "", ()) if each.started < row.at]
            if owners:
                yield row, owners[-1]  # pids are used again
