"""A worker without a process: its leases and settles, driven by hand."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from shithubd_worker.database.connection import connector
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.model import Finished, Lease, Outcome
from shithubd_worker.registry import Kind
from shithubd_worker.turn.frontier import Frontier
from shithubd_worker.turn.tray import Settles
from shithubd_worker.turn.wire import Turn, Turns


class BareWorker:
    """`id` is that of a row in workers."""

    def __init__(self, url: str, schema: str, worker: UUID, name: str = "bare") -> None:
        self.id = worker
        self.queue = QueueSession(connector(url, name), schema, worker)

    def lease_all(self, kinds: Sequence[Kind], most: int = 1) -> list[Lease]:
        """One lease of at most so many jobs of a kind, looking from the start."""
        turns = Turns(self.queue, self.id, {kind.name: kind.lease_timeout for kind in kinds}, pooled=True)
        frontier = Frontier()
        while True:
            ranges, full = frontier.scan([kind.name for kind in kinds], 0.0)
            turns.send(Turn(Settles.of([]), ranges, [most] * len(ranges), full))
            answer = turns.receive()
            for kind, priority in answer.walked:
                frontier.walked(kind, priority)
            if answer.leases or not answer.walked:
                return answer.leases

    def lease(self, kinds: Sequence[Kind]) -> Lease | None:
        """One job, or None."""
        leases = self.lease_all(kinds)
        return leases[0] if leases else None

    def settle(self, lease: Lease, outcome: Outcome, retention: str = "7d") -> bool:
        """End one lease. False if it was lost."""
        return not any(self.queue.settle([Finished(lease, outcome, retention, 0.0)]))

    def close(self) -> None:
        """Drop the connection."""
        self.queue.close()
