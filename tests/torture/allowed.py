"""What the checker allows, and why. Pure.

* A run that returned may be repeated if its worker was lost within WINDOW of its return. The product promises to settle
  a finished job within 0.1 s. The rest of WINDOW is for the machine, and for the moment at which a death is seen. Four
  times do not count, because the worker could not settle then:
  - while the database or the line to it was away, until the worker was BACK
  - while the torture run had stopped the process or left it little processor time
  - while nobody had processor time
  - while the torture run had locked the job's row
* A lease is committed asynchronously, so a crash of the database may lose it (ARCHITECTURE.md, "The hot path"). Then
  the job is leased again although it started, and the history has no row of the first run. This is allowed only for
  runs that began at most FORGOTTEN before the database went down, or START after that.
* A start after a barrier is allowed if the torture run had stopped that process for longer than RESERVE, across the
  time of the barrier. No look at the holds is valid for a process that stands still without limit. RESERVE is the time
  that the product keeps for a process that stands still between its last look and the handler.
* A lease of a dead worker is returned at most STUCK after its end. A worker that found the database again returns none
  for AMNESTY, because the others had lost the database, too. A worker that has just started returns none for AMNESTY
  either. If every living worker has just started, the first SWEEP of the oldest one returns the lease.
* The dead man ends a process that had no processor time for a while. A line to the database that stands still is no
  excuse, because a worker that waits for an answer ends the wait before that. The dead man prints the frames of threads
  that still run. Rarely it reads a torn frame. Then SIGSEGV ends the process, and not the dead man's own signal.
* A worker gives up its run GIVES_UP before a sweep may take the job. Afterwards the handler can still run if the
  process had less processor time than that, until the last sign of the handler: what stands still gives up nothing.
* A worker that nothing troubled for BEATS within its threshold was not silent. It beats once a second.
* A sweep takes the jobs of a silent worker at the latest SWEPT after a worker could do it. It could do it when it had
  seen the database for AMNESTY, and the silence was long enough. It sweeps between two jobs, and the longest job takes
  16 s.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from torture.evidence import Change, Ended, Evidence, Process, Run, Trouble

WINDOW = 1.0
PROMISED_WINDOW = 0.1
BACK = 6.0  # the longest wait between two tries to reconnect is 5 s
AMNESTY = 10.0
STUCK = 10.0
SWEEP = 2.0
FORGOTTEN = 2.0  # up to three times wal_writer_delay (0.2 s), by PostgreSQL's documentation
START = 1.0
RESERVE = 0.4  # a barrier waits 0.8 s, and a job starts within 0.4 s of the last look
RECOVERED = 1.0  # after a process went on, or had processor time again
GIVES_UP = 2.0
BEATS = 5.0
SWEPT = 25.0
SAME_CHANGE = 1.0  # between a row of the history and the audit row of the same transaction
CLOCKS = 0.05  # the precision of the database's times on the monotonic clock


class Allowed:
    """Answers for one run."""

    def __init__(self, evidence: Evidence) -> None:
        self._troubles = evidence.troubles
        self._locks = evidence.locks
        self._proxied = evidence.proxied
        self._processes = evidence.processes
        self._accepted: dict[int, list[Change]] = defaultdict(list)
        for change in evidence.changes:
            if change.accepted:
                self._accepted[change.job].append(change)

    def untroubled(
        self, process: Process | None, since: float, until: float, after: float, jobs: Iterable[int] = ()
    ) -> float:
        """How much of the time from `since` to `until` was without trouble for this process (None: for any process). A
        trouble of the database counts for `after` seconds longer. A lock on one of `jobs` is a trouble, too."""
        spans = [
            (trouble.since, trouble.until + (RECOVERED if trouble.sort in ("late", "burn") else after))
            for trouble in self._troubles
            if process is None or self._hits(trouble, process)
        ]
        if process is not None:
            spans += [(begin, end + RECOVERED) for begin, end in (*process.stops, *process.slow)]
        spans += [(begin, end + RECOVERED) for job in jobs for begin, end in self._locks.get(job, ())]
        return uncovered(since, until, spans)

    def _hits(self, trouble: Trouble, process: Process) -> bool:
        if trouble.slot is not None:
            return trouble.slot == process.slot
        return not trouble.proxied or process.slot in self._proxied

    def had_processor(self, process: Process, since: float, until: float) -> float:
        """How much of that time this process could have run."""
        spans = [(trouble.since, trouble.until) for trouble in self._troubles if trouble.sort in ("late", "burn")]
        return uncovered(since, until, [*spans, *process.stops, *process.slow])

    def swept_by(self, expiry: float) -> float:
        """When a worker must have returned the leases that had expired then: the first worker that has lived for
        AMNESTY, and lives on."""
        return min((self._sweeps(process, expiry) for process in self._processes), default=math.inf)

    def _sweeps(self, process: Process, expiry: float) -> float:
        at = max(expiry, process.started + AMNESTY) + SWEEP
        for begin, end in process.stops:
            if begin < at and end > at - SWEEP:
                at = end + SWEEP
        return at if at < process.exited else math.inf

    def should_have_given_up(self, process: Process, since: float, until: float) -> bool:
        """Had this process so much processor time until then, that it should have given up a job that another worker
        began at `since`?"""
        return self.had_processor(process, since - GIVES_UP, until) >= GIVES_UP

    def accepted(self, row: Ended) -> bool:
        """Did an operator take this job back, and accept that it runs a second time?"""
        return any(abs(change.at - row.at) < SAME_CHANGE for change in self._accepted[row.job])

    def silence_ends(self, silent: Process, since: float, job: int) -> float:
        """When a worker must have taken this job from one that has been silent since then."""
        return min((self._takes(each, since, silent.threshold, job) for each in self._processes), default=math.inf)

    def _takes(self, sweeper: Process, since: float, threshold: float, job: int) -> float:
        at = max(since + max(threshold, sweeper.threshold), sweeper.started + AMNESTY)
        spans = [(each.since, each.until + BACK) for each in self._troubles if self._hits(each, sweeper)]
        spans += [(begin, end + BACK) for begin, end in (*sweeper.stops, *sweeper.slow)]
        spans += [(begin, end - AMNESTY) for begin, end in self._locks.get(job, ())]
        for begin, end in sorted(spans):
            if begin < at + SWEPT:
                at = max(at, end + AMNESTY)
        return at + SWEPT if at + SWEPT < sweeper.exited else math.inf

    def unsettled(self, run: Run, row: Ended) -> float:
        """For how long this run had been over, and could have been settled, when its lease ended in another way."""
        return self.untroubled(run.process, run.ended, min(row.at, run.process.exited), BACK, [run.job])

    def forgotten(self, run: Run) -> bool:
        """May a crash of the database have lost the lease of this run?"""
        return any(
            trouble.since - FORGOTTEN <= run.started <= trouble.since + START
            for trouble in self._troubles
            if trouble.sort in ("down kill", "down immediate")
        )


def stood_still(run: Run, barrier_since: float) -> float | None:
    """For how long the torture run had stopped the process just before, across the moment of the barrier. None if it
    had not, or for less than the reserve."""
    for begin, end in run.process.stops:
        if end - begin > RESERVE and begin < barrier_since and begin < run.started < end + RECOVERED:
            return end - begin
    return None


def uncovered(since: float, until: float, spans: Iterable[tuple[float, float]]) -> float:
    """How much of an interval is outside of all spans.

    >>> uncovered(0, 10, [(2, 4), (3, 5), (9, 20)])
    6.0
    """
    left, at = 0.0, since
    for begin, end in sorted(spans):
        if begin >= until:
            break
        left += max(0.0, begin - at)
        at = max(at, end)
    return left + max(0.0, until - at)
