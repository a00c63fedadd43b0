"""What we set out to reach, and whether this run reached it: by the median of the rounds, ratios taken by round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.figures import by_round, median_of, ratios, spread, told
from benchmarks.results import Results

NOT_PEERS = ("ours", "limit")


@dataclass(frozen=True)
class Target:
    """One of them; `value` is None if the run didn't measure it."""

    name: str
    text: str
    value: Callable[[Results], float | None]
    least: float | None = None
    most: float | None = None

    def row(self, results: Results) -> tuple[str, str, str, str]:
        """Name, target, figure, verdict."""
        value = self.value(results)
        if value is None:
            return self.name, self.text, "", "not measured"
        met = (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
        return self.name, self.text, told(value), "met" if met else "**missed**"


def _ratio(workload: str, figure: str, above: str, below: str) -> Callable[[Results], float | None]:
    return _across((workload, above, figure), (workload, below, figure))


def _across(above: tuple[str, str, str], below: tuple[str, str, str]) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        found = spread(ratios(by_round(results, *above), by_round(results, *below)))
        return found.median if found else None

    return value


def _own(workload: str, figure: str) -> Callable[[Results], float | None]:
    return lambda results: median_of(results, workload, "ours", figure)


def _within(workload: str, above: str, below: str) -> Callable[[Results], float | None]:
    return _across((workload, "ours", above), (workload, "ours", below))


def _times_more(workload: str, figure: str) -> Callable[[Results], float | None]:
    """Ours by the best peer's."""

    def value(results: Results) -> float | None:
        ours, theirs = median_of(results, workload, "ours", figure), _peers(results, workload, figure)
        return ours / max(theirs) if ours and theirs else None

    return value


def _times_faster(workload: str, figure: str) -> Callable[[Results], float | None]:
    """The best peer's by ours."""

    def value(results: Results) -> float | None:
        ours, theirs = median_of(results, workload, "ours", figure), _peers(results, workload, figure)
        return min(theirs) / ours if ours and theirs else None

    return value


def _peers(results: Results, workload: str, figure: str) -> list[float]:
    peers = [name for name in results.contenders if not name.startswith(NOT_PEERS)]
    found = (median_of(results, workload, peer, figure) for peer in peers)
    return [value for value in found if value is not None]


TARGETS = (
    Target("W1", "≥ 1.2 × Graphile tuned (1.5 as the stretch)", _ratio("w1", "rate", "ours", "graphile"), least=1.2),
    Target("W1", "the same with its local queue of 2,000", _ratio("w1", "rate", "ours", "graphile-large"), least=1.2),
    Target("W1", "≥ 0.75 × the limit", _ratio("w1", "rate", "ours", "limit"), least=0.75),
    Target(
        "W1",
        "one job at a time: ≥ 1.5 × Graphile defaults",
        _ratio("w1", "rate", "ours-single", "graphile-defaults"),
        least=1.5,
    ),
    Target("W2", "p50 below every peer's: the best peer's ÷ ours > 1", _times_faster("w2", "p50_ms"), least=1.0),
    Target("W2", "p99 below every peer's: the best peer's ÷ ours > 1", _times_faster("w2", "p99_ms"), least=1.0),
    Target("W3", "≥ 0.95 × W1", _across(("w3", "ours", "rate"), ("w1", "ours", "rate")), least=0.95),
    Target("W3", "flat at 10 M: 10 M ÷ 1 M ≥ 0.9", _within("incident", "rate_10m", "rate_1m"), least=0.9),
    Target("W4", "last ≥ 0.9 × first", _own("w4", "last_of_first"), least=0.9),
    Target("W4", "last ≥ 3 × the best peer's", _times_more("w4", "last"), least=3.0),
    Target("W4b", "p99 flat: last third ÷ first ≤ 1.5", _within("w4b", "p99_last_ms", "p99_first_ms"), most=1.5),
    Target(
        "W4c",
        "INSERTs flat: after the beats ÷ before ≤ 1.5",
        _within("w4c", "insert_last_ms", "insert_first_ms"),
        most=1.5,
    ),
    Target("W5", "≥ 1.6 × W1", _across(("w5", "ours", "rate"), ("w1", "ours", "rate")), least=1.6),
    Target("W6", "one client, an idle worker: ≥ 0.9 × plain", _own("w6-plain", "ratio_single_idle"), least=0.9),
    Target("W6", "64 clients, an idle worker: ≥ 0.75 × plain", _own("w6-plain", "ratio_64_idle"), least=0.75),
    Target("W6", "64 clients, a busy worker: ≥ 0.75 × plain", _own("w6-plain", "ratio_64_busy"), least=0.75),
    Target("idle", "≤ 0.2 % of a core", _own("fleet", "one_worker_cpu_percent"), most=0.2),
    Target("idle", "≤ 2 queries a second", _own("fleet", "one_queries"), most=2.0),
    Target("idle", "RSS ≤ 60 MB", _own("fleet", "one_rss_mib"), most=57.2),
    Target("start", "READY within 400 ms", _own("startup", "ready_ms"), most=400.0),
    Target("start", "`--help` within 150 ms", _own("startup", "help_ms"), most=150.0),
    Target("scrape", "≤ 50 ms with 1 M jobs, asking the database", _own("incident", "scrape_fresh_1m"), most=50.0),
    Target("scrape", "≤ 50 ms with 10 M jobs", _own("incident", "scrape_fresh_10m"), most=50.0),
    Target("commands", "`status` ≤ 1 s with 1 M jobs", _own("incident", "status_1m"), most=1000.0),
    Target("commands", "`pause-kind` ≤ 1 s with 1 M jobs", _own("incident", "pause_kind_1m"), most=1000.0),
    Target("commands", "the flooding kind held ≤ 1 s with 1 M jobs", _own("incident", "hold_flood_1m"), most=1000.0),
    Target("commands", "`drain` ≤ 1 s with 1 M jobs", _own("incident", "drain_1m"), most=1000.0),
)
