"""Ends leases, and finds out how a lease ended, on any connection. The lease's token fences each of these."""

from __future__ import annotations

from collections.abc import Sequence

from shithubd_worker.database.arrays import settle_arguments
from shithubd_worker.database.session import Session
from shithubd_worker.model import Finished, Lease


class Settling(Session):
    """What both threads of a worker ask: settle, and how a lease ended."""

    def settle(self, finished: Sequence[Finished]) -> tuple[set[int], set[int]]:
        """End leases, without waiting for a lock. Returns the ids of lost leases, and the ids of locked rows; for both,
        nothing was written."""
        rows = self.rows("settle_soon_v1", *settle_arguments(finished))
        return {job for job, locked in rows if not locked}, {job for job, locked in rows if locked}

    def settle_all(self, finished: Sequence[Finished]) -> tuple[set[int], set[int]]:
        """Settle all of a batch. The main thread's session is more patient than this."""
        return self.settle(finished)

    def fate(self, lease: Lease) -> str | None:
        """How a lease ended whose settle got no answer: `leased` if it did not end, else the outcome; None if that is
        not known."""
        fate = self.value("lease_fate_v1", lease.id, lease.token)
        return None if fate is None else str(fate)


def settle(session: Session, function: str, finished: Sequence[Finished]) -> set[int]:
    """End leases on any connection, fenced by their tokens. Returns the ids of those that were lost."""
    return {job for (job,) in session.rows(function, *settle_arguments(finished))}


def make_days(session: Session) -> None:
    """Make the missing days of the history, unless another session is doing it."""
    session.value("ensure_history_v1")


def record_lost(session: Session, leased_by: str, finished: Finished) -> None:
    """Write into the history that this worker came too late."""
    lease = finished.lease
    session.rows("lost_v1", leased_by, lease.id, lease.kind, lease.attempt, finished.outcome.error, finished.retention)
