"""What the checker allows, and why. Pure.

* A run that returned may come again if its worker was lost within WINDOW of its return. The product promises to settle
  within 0.1 s what a handler finished; the rest of WINDOW is for the machine, and for the moment at which a death is
  seen. Time in which the worker could not settle doesn't count: while the database or the way to it was away and until
  the worker was BACK, while the run had stopped the process or left it little of a processor, while there was no
  processor for anybody, and while the run had locked the job's row.
* A lease is committed asynchronously, so that a crash of the database may forget it (ARCHITECTURE.md, "The hot path").
  Then the job is leased again though it started, and the history has no row of the first time. Only for runs that began
  at most FORGOTTEN before the database went down, or START after that.
* A start behind a barrier is allowed if the run had stopped that process for longer than RESERVE, over the moment of
  the barrier: no look at the holds can hold for a process that stands still for as long as somebody likes. RESERVE is
  what the product keeps for a process that stands still between its last look and the handler.
* A lease of the dead is returned STUCK after its end at the latest. A worker that found the database again returns none
  for AMNESTY, because the others lost it too. Nor does one that started so long ago: where every living worker did, the
  lease is returned with the first SWEEP of the one that started first.
* The dead man ends a process that had no processor for a while. That the line to the database stands still is no excuse
  for it: whoever waits for an answer ends before that. It prints the frames of threads that run meanwhile. Seldom it
  reads a torn one: then the process ends by SIGSEGV, and not by the dead man's own signal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torture.evidence import Ended, Evidence, Process, Run

WINDOW = 1.0
PROMISED_WINDOW = 0.1
BACK = 6.0  # the longest wait between two tries to reconnect is 5 s
AMNESTY = 10.0
STUCK = 10.0
SWEEP = 2.0
FORGOTTEN = 2.0  # PostgreSQL says: up to three times wal_writer_delay, which is 0.2 s
START = 1.0
RESERVE = 0.4  # a barrier waits 0.8 s, and a job starts within 0.4 s of the last look
RECOVERED = 1.0  # after a process could go on, or had a processor again
CLOCKS = 0.05  # how exactly the database's moments are known on the monotonic clock


class Allowed:
    """Answers for one run."""

    def __init__(self, evidence: Evidence) -> None:
        self._troubles = evidence.troubles
        self._locks = evidence.locks
        self._proxied = evidence.proxied
        self._processes = evidence.processes

    def untroubled(
        self, process: Process | None, since: float, until: float, after: float, jobs: Iterable[int] = ()
    ) -> float:
        """How much of the time from `since` to `until` was without trouble for this process (None: for any); a trouble
        of the database is taken to last `after` seconds longer. A lock on one of `jobs` is trouble, too."""
        spans = [
            (trouble.since, trouble.until + (RECOVERED if trouble.sort in ("late", "burn") else after))
            for trouble in self._troubles
            if not trouble.proxied or process is None or process.slot in self._proxied
        ]
        if process is not None:
            spans += [(begin, end + RECOVERED) for begin, end in (*process.stops, *process.slow)]
        spans += [(begin, end + RECOVERED) for job in jobs for begin, end in self._locks.get(job, ())]
        return uncovered(since, until, spans)

    def had_processor(self, process: Process, since: float, until: float) -> float:
        """For how much of that time this process could have run."""
        spans = [(trouble.since, trouble.until) for trouble in self._troubles if trouble.sort in ("late", "burn")]
        return uncovered(since, until, [*spans, *process.stops, *process.slow])

    def swept_by(self, expiry: float) -> float:
        """When some worker must have returned what had expired then: the first one that has lived for AMNESTY, and
        lives on."""
        return min((self._sweeps(process, expiry) for process in self._processes), default=math.inf)

    def _sweeps(self, process: Process, expiry: float) -> float:
        at = max(expiry, process.started + AMNESTY) + SWEEP
        for begin, end in process.stops:
            if begin < at and end > at - SWEEP:
                at = end + SWEEP
        return at if at < process.exited else math.inf

    def unsettled(self, run: Run, row: Ended) -> float:
        """For how long this run had been over, and could have been settled, when its lease ended otherwise."""
        return self.untroubled(run.process, run.ended, min(row.at, run.process.exited), BACK, [run.job])

    def forgotten(self, run: Run) -> bool:
        """May a crash of the database have forgotten the lease of this run?"""
        return any(
            trouble.since - FORGOTTEN <= run.started <= trouble.since + START
            for trouble in self._troubles
            if trouble.sort in ("down kill", "down immediate")
        )


def stood_still(run: Run, barrier_since: float) -> float | None:
    """For how long the torture run had stopped the process just before, over the barrier's moment; None if not at all,
    or for less than the reserve."""
    for begin, end in run.process.stops:
        if end - begin > RESERVE and begin < barrier_since and begin < run.started < end + RECOVERED:
            return end - begin
    return None


def uncovered(since: float, until: float, spans: Iterable[tuple[float, float]]) -> float:
    """How much of an interval lies in none of the spans.

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
