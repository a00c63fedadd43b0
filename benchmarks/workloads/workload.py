"""What a workload is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender
from benchmarks.results import Point


@dataclass
class Outcome:
    """What a run gives: see results.Run."""

    figures: dict[str, float]
    checked: str = ""
    lines: dict[str, list[Point]] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """How large everything is to be. `scale` multiplies the numbers of jobs, `seconds` the lengths of time."""

    scale: float = 1.0
    seconds: float = 1.0

    def jobs(self, count: int, least: int = 500) -> int:
        """A number of jobs."""
        return max(least, int(count * self.scale))

    def span(self, seconds: float, least: float = 1.0) -> float:
        """A length of time."""
        return max(least, seconds * self.seconds)


@dataclass(frozen=True)
class Workload:
    """One thing to measure."""

    name: str
    title: str
    # What is done and what is measured, for the report.
    text: str
    run: Callable[[Cluster, Contender, Size], Outcome]
    # Which contenders can do it: names; empty for all.
    contenders: Sequence[str] = ()
    # The figures that the report shows, with their headings.
    columns: Mapping[str, str] = field(default_factory=lambda: {"rate": "jobs/s"})
    # The one that ratios are made of, and whether less of it is better.
    figure: str = "rate"
    less_is_better: bool = False
    # At most so many rounds: for what takes long, and what doesn't vary much.
    rounds: int = 99
