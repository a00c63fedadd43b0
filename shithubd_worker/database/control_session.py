"""What a worker's control thread asks: register, beat, renew, and the settles when it ends the process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from uuid import UUID

from shithubd_worker import __version__
from shithubd_worker.database.arrays import as_array
from shithubd_worker.database.clock import Clock
from shithubd_worker.database.schema import newest_version
from shithubd_worker.database.settles import Settling
from shithubd_worker.model import Hold, Identity, Lease, Registration
from shithubd_worker.plain import json_text

# Not an outcome of an attempt, but counted beside them: see ControlSession.count_ended.
FORCED = "forced"


class ControlSession(Settling):
    """What a worker's control thread asks: register, beat, renew, and the settles when it ends the process."""

    def register(self, worker: Registration) -> None:
        """Write the worker's row."""
        who = asdict(worker.identity)
        self.rows("register_v1", *who.values(), __version__, newest_version(), list(worker.kinds), worker.gives_up)

    def beat(
        self,
        worker: UUID,
        state: str,
        job: int | None,
        kind: str | None,
        running: float | None,
        unsettled: Sequence[int] = (),
        *,
        otherwise: list[Hold] | None = None,
    ) -> list[Hold] | None:
        """Say that the worker lives, and which of its finished jobs are still to be settled. Returns the drains that
        cover it, or `otherwise` if a lock keeps it from looking; None if its row is gone."""
        holds = self.value("beat_v1", worker, state, job, kind, running, as_array([str(job) for job in unsettled]))
        if holds is False:
            return otherwise or []
        return None if holds is None else [Hold(**hold) for hold in holds]

    def renew(self, lease: Lease, timeout: float) -> bool:
        """Move the lease's expiry to `timeout` seconds from now. False if the lease was lost."""
        return bool(self.value("renew_v1", lease.id, lease.token, timeout))

    def release_strays(self, worker: UUID, token: str) -> list[tuple[int, str]]:
        """Give back the leases of a query whose answer the main thread hasn't read. Returns (id, kind) of each."""
        return [(job, kind) for job, kind in self.rows("release_strays_v1", worker, as_array([token]))]

    def look_at_clock(self, clock: Clock) -> None:
        """Ask the database what time it is."""
        sent_at = time.monotonic()
        clock.saw(sent_at, self.value("statement_time_v1").timestamp(), time.monotonic())

    def wakes_come(self) -> bool:
        """Can the main thread rely on enqueues to wake it?"""
        return bool(self.value("wakes_come_v1"))

    def housemates(self, identity: Identity) -> list[Identity]:
        """The other workers of this machine, as they registered."""
        rows = self.rows("housemates_v1", identity.id, identity.machine_id)
        return [Identity(*row) for row in rows]

    def waiting(self) -> list[tuple[str | None, int, float | None]]:
        """Of each kind with queued jobs: its name, how many they are, and in how many seconds the next retry is due."""
        now, rows = self.value("statement_time_v1"), self.rows("kinds_v1")
        return [
            (kind, queued, None if next_retry is None else max(0.0, (next_retry - now).total_seconds()))
            for kind, queued, *_, next_retry, _id, _capped, _urgency, _kinds in rows
            if queued
        ]

    def release_worker(self, worker: UUID, why: str) -> list[tuple[int, str, str]]:
        """Return what a dead worker held, and forget the worker. Returns (id, kind, outcome) of each job."""
        return [(job, kind, how) for job, kind, how in self.rows("release_worker_v1", worker, why)]

    def release_invocation(self, invocation_id: str, why: str) -> list[tuple[int, str, str]]:
        """The same for the process that systemd knows by this invocation id."""
        return [(job, kind, how) for job, kind, how in self.rows("release_invocation_v1", invocation_id, why)]

    def count_ended(self, ended: Mapping[tuple[str, str], int]) -> None:
        """Count what ended with a worker, for the metrics of all workers. The keys are kind and outcome. FORCED counts
        the processes that were ended because a handler of the kind didn't stop."""
        if ended:
            kinds, outcomes = zip(*ended, strict=True)
            self.rows("count_ended_v1", list(kinds), list(outcomes), list(ended.values()))

    def write_stats(self, figures: Sequence[Mapping[str, object]]) -> None:
        """Add what this worker counted to the figures of each kind. The members are those of write_stats_v1."""
        self.rows("write_stats_v1", json_text(figures))

    def unregister(self, worker: UUID, strays: Sequence[str]) -> None:
        """Give back what the lease queries of these tokens leased, and delete the worker's row."""
        self.rows("unregister_v1", worker, as_array(strays))
