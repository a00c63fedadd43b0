"""The verdict: evidence in, violations out. Pure. allowed.py says what is allowed, and why."""

from __future__ import annotations

from collections import Counter

from torture.check_changes import Changes
from torture.check_holds import Holds
from torture.check_jobs import Jobs
from torture.check_ramps import Ramps
from torture.check_workers import Workers
from torture.evidence import Evidence
from torture.verdict import Verdict


def check(evidence: Evidence) -> Verdict:
    """Check a run against all promises."""
    explained: Counter[str] = Counter()
    jobs, changes, holds, workers = (each(evidence, explained) for each in (Jobs, Changes, Holds, Workers))
    ramps = Ramps(evidence, explained)
    violations = [
        *jobs.nothing(),
        *jobs.lost(),
        *jobs.rolled_back(),
        *jobs.effects(),
        *jobs.second_runs(),
        *jobs.ends(),
        *changes.ends(),
        *changes.returns(),
        *holds.barriers(),
        *ramps.ramps(),
        *workers.stuck(),
        *workers.silences(),
        *workers.exits(),
    ]
    return Verdict(violations, explained)
