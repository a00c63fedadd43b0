"""Renews the lease of the running job in time, and gives the run up at once if another worker has the job."""

from __future__ import annotations

import time

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.database.clock import Clock
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.host.signals import ring_main
from shithubd_worker.process.duties.outage import Outage
from shithubd_worker.process.duties.trust import Trust
from shithubd_worker.process.shared import Progress
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.timing import RENEW_AFTER


class Renewal:
    """For the running job alone. Nothing renews jobs at hand that haven't started."""

    def __init__(
        self,
        session: ControlSession,
        progress: Progress,
        clock: Clock,
        outage: Outage,
        trust: Trust,
        metrics: Metrics,
    ) -> None:
        self._session = session
        self._progress = progress
        self._clock = clock
        self._outage = outage
        self._trust = trust
        self._metrics = metrics

    def tick(self, now: float, attempt: Attempt | None) -> None:
        """Renew the lease, if that is due."""
        if attempt is None or attempt.over or attempt.lost or attempt.settled or not self._due(now, attempt):
            return
        timeout = attempt.kind.lease_timeout
        sent_at = time.monotonic()
        if self._session.renew(attempt.lease, timeout):
            self._metrics.renewed(ok=True)
            self._trust.renewed(sent_at, attempt)
        elif not attempt.over and not attempt.shielded:
            # If the main thread is just committing the settle, the lease is gone because it was ended, not because it
            # was lost.
            attempt.lost = True
            self._metrics.renewed(ok=False)
            ring_main()

    def _due(self, now: float, attempt: Attempt) -> bool:
        """After a third of the timeout. At once if the database may have forgotten the lease, or may believe that it is
        over, or that this worker is gone."""
        timeout = attempt.kind.lease_timeout
        written_at = attempt.renewed_at  # when the lease's end was written, or a little before
        # A lease is committed asynchronously, so a database that crashed may have forgotten it.
        doubted_at = max(self._clock.stepped_at, self._outage.lost_at, self._progress.found_at, self._trust.doubted_at)
        return now >= written_at + timeout * RENEW_AFTER or written_at < doubted_at
