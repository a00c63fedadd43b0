"""Arithmetic on figures: percentiles, slopes, the spread over the rounds, ratios by round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.results import Point, Results

SMALL, LARGE = 10, 100


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0…1) of the values don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(values: Sequence[float]) -> dict[str, float]:
    """p50 and p99 of seconds, in milliseconds."""
    return {"p50_ms": percentile(values, 0.5) * 1000, "p99_ms": percentile(values, 0.99) * 1000}


def slope(points: Sequence[Point]) -> float:
    """By how much y grows when x grows tenfold: least squares over the logarithm of x."""
    logs = [(math.log10(x), y) for x, y in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    return float(sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread) if spread else 0.0


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    least: float
    median: float
    most: float
    rounds: int

    def __str__(self) -> str:
        if self.rounds == 1:
            return told(self.median)
        return f"{told(self.median)} ({told(self.least)}–{told(self.most)})"


def spread(values: Sequence[float]) -> Spread | None:
    """None without values."""
    return Spread(min(values), statistics.median(values), max(values), len(values)) if values else None


def by_round(results: Results, workload: str, contender: str, figure: str) -> dict[int, float]:
    """A figure of each round that has it."""
    return {run.round: run.figures[figure] for run in results.of(workload, contender) if figure in run.figures}


def ratios(above: dict[int, float], below: dict[int, float]) -> list[float]:
    """Round by round: what the machine was up to in a round hit both."""
    return [above[number] / below[number] for number in sorted(above.keys() & below.keys()) if below[number]]


def median_of(results: Results, workload: str, contender: str, figure: str) -> float | None:
    """The median over the rounds."""
    found = spread(list(by_round(results, workload, contender, figure).values()))
    return found.median if found else None


def told(value: float) -> str:
    """A figure with three or four digits that mean something."""
    if abs(value) >= LARGE:
        return f"{value:,.0f}"
    if abs(value) >= SMALL:
        return f"{value:.1f}"
    return f"{value:.2f}"
