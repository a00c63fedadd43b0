"""One examination: the wanted checks, what they found, and what could not be checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from shithubd_worker.doctor import server, units
from shithubd_worker.doctor.finding import PAGES, Finding, Severity, Unchecked
from shithubd_worker.doctor.limits import LIMITS

if TYPE_CHECKING:
    import psycopg

    from shithubd_worker.doctor.server import Connect

# The checks that need no database.
OF_HOST = {"unit-drift": units.drift}


def every() -> list[str]:
    """The names of all checks, in the order of PAGES."""
    known = {*OF_HOST, *server.checks(), server.POOLER}
    return [name for name in PAGES if name in known]


class Examination:
    """`wanted` are names of checks; without them all are wanted. What is not checked yet stays in `left`. `limits` are
    those that differ from the usual ones."""

    def __init__(self, wanted: Collection[str] = (), limits: Mapping[str, float] | None = None) -> None:
        self.wanted = [name for name in every() if name in wanted or not wanted]
        self.left = list(self.wanted)
        self.limits = {**LIMITS, **(limits or {})}
        self.findings: list[Finding] = []
        self.unchecked: list[Unchecked] = []

    @property
    def bad(self) -> bool:
        """Was anything found? Notices do not count."""
        return any(each.severity is not Severity.NOTICE for each in self.findings)

    def of_host(self) -> None:
        """Look at this host."""
        for name, check in OF_HOST.items():
            if name in self.left:
                self._add(name, list(check()))

    def of_database(self, connection: psycopg.Connection, schema: str, connect: Connect) -> None:
        """Ask the database. Raises psycopg.OperationalError if the connection is lost. `connect` opens another one."""
        for name in list(self.left):
            self._add(name, server.examine(connection, schema, name, connect, self.limits))

    def give_up(self, error: Exception) -> None:
        """What is left can't be checked."""
        for name in list(self.left):
            self._add(name, [Unchecked(name, str(error.args[0]), type(error).__name__)])

    def as_json(self, *, quoting: bool = True) -> dict[str, Any]:
        """What `doctor --json` prints, without the time. Without `quoting`, no text of an error is in it."""
        return {
            "findings": [
                {
                    "name": each.name,
                    "severity": each.severity,
                    "said": each.said,
                    "evidence": dict(each.evidence),
                    "since": each.since,
                    "page": each.page,
                }
                for each in self.findings
            ],
            "unchecked": [
                {"name": each.name, "why": each.why if quoting or not each.error else each.error}
                for each in self.unchecked
            ],
            "checks": len(self.wanted),
        }

    def _add(self, name: str, found: list[Finding | Unchecked]) -> None:
        self.left.remove(name)
        self.unchecked += [each for each in found if isinstance(each, Unchecked)]
        severities = list(Severity)
        self.findings += [each for each in found if isinstance(each, Finding)]
        self.findings.sort(key=lambda each: severities.index(each.severity))
