"""What the doctor can find, and which page says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

# The runbook of each finding: `shithubd-worker runbook PAGE`.
PAGES = {
    "old-transaction": "vacuum-held-back",
    "replication-slot": "vacuum-held-back",
    "prepared-transaction": "vacuum-held-back",
    "standby": "vacuum-held-back",
    "bloat": "bloat",
    "stale-statistics": "bloat",
    "notify-queue": "notify-queue",
    "pooler": "pooler",
    "connections": "connections",
    "wraparound": "vacuum-held-back",
    "blocked": "LeasingStalled",
    "unfinished-index": "bloat",
    "collation": "bloat",
    "read-only": "PostgresUnreachable",
    "durability": "postgres-restart",
    "disk": "disk-full",
    "clock-skew": "clock-skew",
    "schema-version": "schema-drift",
    "schema-parts": "schema-drift",
    "function-drift": "schema-drift",
    "missing-rights": "schema-drift",
    "unit-drift": "unit-drift",
    "forgotten-hold": "HoldTooLong",
    "ramp-stopped": "KindRampStopped",
    "history-days": "HistoryRunsOut",
    "no-worker": "WorkerAbsent",
    "silent-workers": "sweep",
    "expired-leases": "ExpiredLeases",
    "unhandled-kinds": "KindUnhandled",
    "mixed-releases": "SchemaMismatch",
}


class Severity(StrEnum):
    """How bad a finding is, the worst first. A notice is no reason to act."""

    CRITICAL = "critical"  # jobs do not run, or soon will not
    WARNING = "warning"  # it gets worse until somebody acts
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that threatens the queue. `name` is a key of PAGES, `said` one sentence, `evidence` the figures behind
    it. `since` is when it began, if that is known. `page` is the name of its runbook."""

    name: str
    severity: Severity
    said: str
    evidence: Mapping[str, Any]
    since: datetime | None
    page: str


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A check that could not look, and why. It hides no other check. `error` is the kind of the error that `why`
    quotes: its text may have a part of a password that was typed wrongly."""

    name: str
    why: str
    error: str = ""


def finding(name: str, severity: Severity, said: str, evidence: Mapping[str, Any]) -> Finding:
    """A finding. Nobody knows since when it is so."""
    return Finding(name, severity, said, evidence, None, PAGES[name])
