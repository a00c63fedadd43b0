"""Ending leases, and what became of that, on whatever connection. Fenced by the lease's token."""

from __future__ import annotations

from collections.abc import Sequence

from shithubd_worker.database.arrays import settle_arguments
from shithubd_worker.database.session import Session
from shithubd_worker.model import Finished, Lease


class Settling(Session):
    """What both threads of a worker ask: settle, and what became of a settle."""

    def settle(self, finished: Sequence[Finished]) -> tuple[set[int], set[int]]:
        """End leases, waiting for nobody. The ids of those that were lost, and of those that somebody has locked: for
        them nothing was written."""
        rows = self.rows("settle_soon_v1", *settle_arguments(finished))
        return {job for job, locked in rows if not locked}, {job for job, locked in rows if locked}

    def fate(self, lease: Lease) -> str | None:
        """What became of a lease whose settle got no answer: leased, the outcome that ended it, or None if unknown."""
        fate = self.value("lease_fate_v1", lease.id, lease.token)
        return None if fate is None else str(fate)


def settle(session: Session, function: str, finished: Sequence[Finished]) -> set[int]:
    """End leases on whatever connection; fenced by their tokens. The ids of those that were lost."""
    return {job for (job,) in session.rows(function, *settle_arguments(finished))}


def make_days(session: Session) -> None:
    """Make the history's days that are missing, unless somebody else just does so."""
    session.value("ensure_history_v1")


def record_lost(session: Session, leased_by: str, finished: Finished) -> None:
    """Write into the history that this worker came too late."""
    lease = finished.lease
    session.rows("lost_v1", leased_by, lease.id, lease.kind, lease.attempt, finished.outcome.error, finished.retention)
