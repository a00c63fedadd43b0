"""A worker without a process: the product's own turns, driven by the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from shithubd_worker.database.clock import Clock
from shithubd_worker.database.connection import connector
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.model import Finished, Lease, Outcome
from shithubd_worker.registry import Kind
from shithubd_worker.turn.selection import Selection
from shithubd_worker.turn.tray import Settles
from shithubd_worker.turn.wire import Answer, Turn, Wire


class Turns:
    """One turn after the other. The clock for looks from the start stands still: the first turn looks from the start,
    and each turn that is told to (`selection.anew`)."""

    def __init__(self, queue: QueueSession, timeouts: Mapping[str, float], *, pooled: bool = False) -> None:
        self.queue = queue
        self.wire = Wire(queue, timeouts, pooled=pooled)
        self.selection = Selection(list(timeouts), Clock(lambda _: None), 0.0, monotonic=lambda: 0.0)

    def send(self, finished: Sequence[Finished] = (), most: int = 500) -> Turn:
        """Send a turn that settles these, and leases at most this many of a kind."""
        turn = self.selection.turn(Settles.of(list(finished)))
        turn.most = [most] * len(turn.ranges)
        self.wire.send(turn)
        return turn

    def receive(self) -> Answer:
        """The answer of the turn."""
        answer = self.wire.receive()
        self.selection.learn(answer)
        return answer

    def turn(self, finished: Sequence[Finished] = (), most: int = 500) -> Answer:
        """Send a turn, and receive its answer."""
        self.send(finished, most)
        return self.receive()

    def lease(self, most: int = 500) -> list[Lease]:
        """All jobs that are there. For a range of priorities, the first turn may only find which ones have jobs."""
        while True:
            answer = self.turn(most=most)
            if answer.leases or not answer.walked:
                return answer.leases


class BareWorker:
    """A worker without a process. `id` is the id of its row in workers."""

    def __init__(self, url: str, schema: str, worker: UUID, name: str = "bare") -> None:
        self.id = worker
        self.queue = QueueSession(connector(url, name), schema, worker)

    def lease_all(self, kinds: Sequence[Kind], most: int = 1) -> list[Lease]:
        """One lease of at most this many jobs of a kind, with a look from the start."""
        return Turns(self.queue, {kind.name: kind.lease_timeout for kind in kinds}, pooled=True).lease(most)

    def lease(self, kinds: Sequence[Kind]) -> Lease | None:
        """One job, or None."""
        leases = self.lease_all(kinds)
        return leases[0] if leases else None

    def settle(self, lease: Lease, outcome: Outcome, retention: str = "7d") -> bool:
        """End one lease. Returns False if it was lost."""
        return not any(self.queue.settle([Finished(lease, outcome, retention, 0.0)]))

    def close(self) -> None:
        """Close the connection."""
        self.queue.close()
