"""W1, W3, W5: a backlog is there, workers start, the rate is taken.

The clock runs from the start of the first handler to the moment at which no job is unsettled; a process's own start is
not in it. Who isn't done after a time is stopped; its rate is then that of the starts within that time.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass

from benchmarks import recordings
from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender
from benchmarks.recordings import Recording
from benchmarks.stage import Stage, staged
from benchmarks.workloads.workload import Outcome, Size, Workload

START_SECONDS = 60.0
W1_SECONDS, W3_SECONDS, W5_SECONDS = 6, 4, 4
# Left out of what takes long: two of the limit, and the settings of a peer that aren't its best.
OF_ALL = (
    "ours",
    "ours-single",
    "limit",
    "limit-plain",
    "graphile",
    "graphile-large",
    "graphile-defaults",
    "pgboss",
    "pgqueuer",
    "chancy",
    "procrastinate",
)


@dataclass(frozen=True)
class Drain:
    """How a drain went: what ran, when the last job was settled or the time was over, what was checked."""

    recordings: list[Recording]
    ended_at: float
    checked: str

    def moments(self) -> list[float]:
        """When jobs began, up to the end: who is stopped may begin some more."""
        found = recordings.starts(self.recordings)
        return found[: bisect_right(found, self.ended_at)]

    def rate(self) -> float:
        """Jobs a second, from when the last of the processes had begun to work."""
        began = max(recording.moments[0] for recording in self.recordings)
        return recordings.rate_between(self.moments(), began, self.ended_at)


def watch(stage: Stage, jobs: int, seconds: float, *, already: int = 0) -> Drain:
    """Workers were started and `jobs` wait: until all ran, or for so many seconds from the first start."""
    stage.wait_for_progress(already + 1, START_SECONDS)
    ends = time.monotonic() + seconds
    ended_at = None
    while time.monotonic() < ends:
        if stage.progress() >= already + jobs:
            ended_at = stage.settled()
            break
        stage.check_alive()
        time.sleep(0.002)
    left = 0
    if ended_at is None:
        ended_at = time.time()
        recorded = stage.end_workers()
        left = stage.count_unsettled()
    else:
        recorded = stage.end_workers()
    checked = recordings.check_once(recorded, jobs, left, may_forget=stage.contender.may_forget)
    return Drain(recorded, ended_at, checked)


def drain(
    cluster: Cluster, contender: Contender, jobs: int, seconds: float, *, workers: int = 1, until_empty: bool = False
) -> Drain:
    """A whole drain by so many processes."""
    with staged(cluster, contender, jobs) as stage:
        for _ in range(workers):
            stage.start_worker(until_empty=until_empty)
        return watch(stage, jobs, seconds)


def _w1(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    done = drain(cluster, contender, size.jobs(50_000), size.span(W1_SECONDS), until_empty=True)
    return Outcome({"rate": done.rate()}, done.checked)


def _w3(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    done = drain(cluster, contender, size.jobs(1_000_000), size.span(W3_SECONDS))
    return Outcome({"rate": done.rate()}, done.checked)


def _w5(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    done = drain(cluster, contender, size.jobs(min(200_000, contender.expected * 20)), size.span(W5_SECONDS), workers=2)
    return Outcome({"rate": done.rate()}, done.checked)


W1 = Workload("w1", "W1 drain of 50,000", f"50,000 jobs wait, one process, {W1_SECONDS} s at most; jobs a second", _w1)
W3 = Workload(
    "w3",
    "W3 a backlog of 1,000,000",
    f"1,000,000 jobs wait, one process for {W3_SECONDS} s; jobs a second",
    _w3,
    contenders=OF_ALL,
)
W5 = Workload(
    "w5",
    "W5 two processes",
    f"up to 200,000 jobs wait, two processes, {W5_SECONDS} s at most; jobs a second, both together",
    _w5,
    contenders=OF_ALL,
)
