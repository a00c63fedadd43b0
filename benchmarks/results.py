"""What a benchmark hands on: one record for each run of each contender, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Point = tuple[float, float]


@dataclass
class Run:
    """One contender in one round of one workload: figures by name, lines to draw, and what was checked."""

    workload: str
    contender: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    lines: dict[str, list[Point]] = field(default_factory=dict)
    checked: str = ""
    # Why there is no figure, if there is none.
    error: str = ""


@dataclass
class Results:
    """A whole benchmark."""

    machine: dict[str, str]
    command: str
    scale: float
    rounds: int
    contenders: dict[str, dict[str, Any]]  # by name: title, settings, one_at_a_time
    runs: list[Run] = field(default_factory=list)
    began: str = ""
    seconds: float = 0.0

    def of(self, workload: str, contender: str) -> list[Run]:
        """The runs that have figures, in the order of their rounds."""
        return [r for r in self.runs if (r.workload, r.contender) == (workload, contender) and not r.error]

    def growth(self) -> dict[str, list[Point]]:
        """What a job cost, by what grew; the largest backlogs were measured among the incident's commands."""
        lines: dict[str, list[Point]] = {}
        for run in [*self.of("growth", "ours"), *self.of("incident", "ours")]:
            for name, points in run.lines.items():
                known = {x for x, _ in lines.setdefault(name, [])}
                lines[name] += [(x, y) for x, y in points if x not in known]
        return lines

    def write(self, path: Path) -> None:
        """To a file, whole or not at all."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        partial.rename(path)


def load(path: Path) -> Results:
    """From a file that `write` wrote."""
    data: dict[str, Any] = json.loads(path.read_text())
    runs = [Run(**run) for run in data.pop("runs")]
    return Results(**data, runs=runs)
