"""What the doctor can find, and which page says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    "disk": "disk-full",
    "clock-skew": "clock-skew",
    "schema-version": "schema-drift",
    "function-drift": "schema-drift",
    "missing-rights": "schema-drift",
    "unit-drift": "unit-drift",
    "forgotten-hold": "HoldTooLong",
    "history-days": "HistoryRunsOut",
}


class Severity(StrEnum):
    """How bad a finding is, the worst first. A notice is no reason to act."""

    CRITICAL = "critical"  # jobs do not run, or soon will not
    WARNING = "warning"  # it gets worse until somebody acts
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that threatens the queue. `name` is a key of PAGES, `said` one sentence, `evidence` the figures behind
    it. `since` is when it began, if the database knows."""

    name: str
    severity: Severity
    said: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    since: datetime | None = None

    @property
    def page(self) -> str:
        """The name of its runbook."""
        return PAGES[self.name]


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A check that could not look, and why. It hides no other check."""

    name: str
    why: str
