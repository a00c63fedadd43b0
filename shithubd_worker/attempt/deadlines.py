"""When a run must end, and why. Times are on the monotonic clock.

Both threads ask this. The main thread interrupts the handler by it, when its alarm rings; the control thread renews
the lease by it, and ends the process if the interrupt is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from shithubd_worker.model import Lease
from shithubd_worker.registry import Kind
from shithubd_worker.timing import (
    ANSWER_MARGIN,
    DEAD_MAN_MARGIN,
    DEAD_MAN_SLACK,
    LONG_SECONDS,
    SETTLE_SECONDS,
    START_AGAIN_WITHIN_SECONDS,
    START_WITHIN_SECONDS,
)


class StopRequest(Protocol):
    """When must a running handler be released? host.signals.Stop."""

    @property
    def release_at(self) -> float:
        """On the monotonic clock; infinity if nobody asked to stop."""


class Deadlines:
    """Those of one run, and what moves them."""

    __slots__ = (
        "_armed",
        "_clock",
        "_stop",
        "asked_at",
        "kind",
        "lease",
        "lease_deadline",
        "lost",
        "over",
        "runtime_deadline",
        "settled",
        "started_at",
        "unreachable",
    )

    def __init__(self, kind: Kind, lease: Lease, stop: StopRequest, clock: Callable[[], float]) -> None:
        self.kind = kind
        self.lease = lease
        self.started_at = clock()
        self.runtime_deadline = self.started_at + kind.max_runtime
        self.lease_deadline = lease.sent_at + kind.lease_timeout  # moved by the control thread at each renewal
        self.lost = False  # set by the control thread when a renewal was refused
        self.unreachable = False  # set by the control thread while it can't reach the database
        self.asked_at: float | None = None  # set by it while it waits for the database, or a renewal was refused
        self.over = False  # the handler has returned; what is left is the main thread's settle
        self.settled = False  # job.transaction() has committed
        self._stop = stop
        self._clock = clock
        self._armed = False  # may an interrupt fall into what the main thread does?

    @property
    def shielded(self) -> bool:
        """Is the main thread where no interrupt may fall: in a COMMIT, or past the handler?"""
        return not self._armed

    @property
    def end_at(self) -> float:
        """When the handler must be interrupted."""
        return min(self.give_up_at, self.runtime_deadline, self._stop.release_at)

    @property
    def give_up_at(self) -> float:
        """When the lease, not renewed, is too close to its end to go on; never once the job is settled."""
        return math.inf if self.settled else self.lease_deadline - self.kind.margin

    @property
    def dead_man_at(self) -> tuple[float, float]:
        """When the process must be ended at the latest, and by how much earlier that may be: so long that a batch, and
        some more, pass under one arming. No earlier for a run that is long: it may have to do without a renewal until
        it is interrupted."""
        slack = self.kind.lease_timeout * DEAD_MAN_SLACK if self._clock() - self.started_at < LONG_SECONDS else 0.0
        return self.lease_deadline - self.kind.margin * DEAD_MAN_MARGIN, slack

    def may_start(self) -> bool:
        """Is the lease young enough to go without another look at the holds?"""
        batch = self.lease.batch
        age = self._clock() - batch.sent_at
        return age <= START_WITHIN_SECONDS or (batch.again and age <= START_AGAIN_WITHIN_SECONDS)

    def why_end(self) -> str | None:
        """Why the handler must be interrupted now: lost, stop or runtime; None if it may go on."""
        now = self._clock()
        if (self.lost and not self.settled) or now >= self.give_up_at:
            return "lost"
        if now >= self._stop.release_at:
            return "stop"
        if now >= self.runtime_deadline:
            return "runtime"
        return None

    def answer_by(self) -> float:
        """Until when a call on the handlers' connection may wait: until shortly before the dead man, and so that what
        no interrupt ends (a settle, a COMMIT, a ROLLBACK) doesn't outlast max_runtime by much either."""
        if self.settled:
            return math.inf
        by = self.lease_deadline - self.kind.margin * ANSWER_MARGIN
        return by if self._armed else min(by, self.runtime_deadline + SETTLE_SECONDS)
