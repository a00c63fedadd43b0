"""What a contender is: four programs and two questions. Everything else treats all of them alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.paths import REPOSITORY
from benchmarks.processes import Command


@dataclass(frozen=True)
class Contender:
    """One job system with its settings, or the limit."""

    name: str
    title: str
    # For the report: what was set, where it isn't the default.
    settings: str
    # Calls the program around its library: runner + (role, url, json).
    runner: Sequence[str | Path]
    # What `work` is given.
    work: Mapping[str, Any] = field(default_factory=dict)
    # SQL: how many jobs are not settled; and are there any (cheap, for the end of a drain).
    unsettled: str = ""
    # SQL that leaves rows as dead as a drain of the whole table does: each leased, then gone or finished.
    churn: Sequence[str] = ()
    # What it did in a drain here, roughly, in jobs a second: only to load no more than it can get through.
    expected: int = 1000
    # Does it lease and settle its jobs one by one?
    one_at_a_time: bool = False
    # May it be stopped with jobs unsettled that ran?
    may_forget: bool = False
    # Which system it is, where several contenders are one system with other settings; they share the schema.
    system: str = ""
    # Another program for the sides that aren't the worker's.
    enqueue_runner: Sequence[str | Path] = ()

    def migrate_command(self, url: str) -> Command:
        """Makes its schema."""
        return self._command(self.runner, "migrate", url, {})

    def load_command(self, url: str, first: int, count: int) -> Command:
        """Enqueues the jobs numbered from `first`, as fast as it can."""
        return self._command(self.enqueue_runner or self.runner, "load", url, {"first": first, "count": count})

    def enqueue_command(self, url: str, plan: Mapping[str, Any]) -> Command:
        """Enqueues by a plan, see runners/pacing.py."""
        return self._command(self.enqueue_runner or self.runner, "enqueue", url, plan)

    def work_command(self, url: str, *, until_empty: bool = False) -> Command:
        """Runs jobs until SIGTERM."""
        return self._command(self.runner, "work", url, self.work)

    def _command(self, runner: Sequence[str | Path], role: str, url: str, given: Mapping[str, Any]) -> Command:
        return Command([*runner, role, url, json.dumps(given)], {"PYTHONPATH": str(REPOSITORY)}, cwd=Path("/"))
