"""When a run must end, and why. Times are on the monotonic clock.

Both threads use it. The main thread interrupts the handler when its alarm rings. The control thread renews the lease,
and ends the process if the handler ignores the interrupt.
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
    """When a running handler must be released. host.signals.Stop has it."""

    @property
    def release_at(self) -> float:
        """On the monotonic clock. Infinity if no stop was asked for."""


class Deadlines:
    """The deadlines of one run, and what moves them."""

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
        "renewed_at",
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
        self.renewed_at = sent_at = lease.sent_at  # the control thread sets it at each renewal
        # When others may have the job. The control thread moves it at each renewal, and at each beat. A lease is a sign
        # of life, too. So the last beat can be older than the lease and need not be asked for here, for each job.
        self.lease_deadline = sent_at + kind.trusted
        self.lost = False  # the control thread sets it when a renewal was refused
        self.unreachable = False  # the control thread sets it while it can't reach the database
        # The control thread sets it while it waits for the database, or while a renewal is refused.
        self.asked_at: float | None = None
        self.over = False  # the handler has returned; only the main thread's settle is left
        self.settled = False  # job.transaction() has committed
        self._stop = stop
        self._clock = clock
        self._armed = False  # may an interrupt fall into what the main thread does now?

    @property
    def shielded(self) -> bool:
        """Is the main thread where no interrupt may fall: in a COMMIT, or after the handler's end?"""
        return not self._armed

    @property
    def end_at(self) -> float:
        """When the handler must be interrupted."""
        return min(self.give_up_at, self.runtime_deadline, self._stop.release_at)

    @property
    def give_up_at(self) -> float:
        """When the lease is too close to its end for the run to go on. Never, once the job is settled."""
        return math.inf if self.settled else self.lease_deadline - self.kind.margin

    @property
    def dead_man_at(self) -> tuple[float, float]:
        """When the process must be ended at the latest, and how many seconds earlier that may be. The second value is
        large, so that one arming serves a batch and more. For a long run it is 0, because the run may have to go
        without a renewal until it is interrupted."""
        slack = self.kind.trusted * DEAD_MAN_SLACK if self._clock() - self.started_at < LONG_SECONDS else 0.0
        return self.lease_deadline - self.kind.margin * DEAD_MAN_MARGIN, slack

    def may_start(self) -> bool:
        """Is the lease young enough to start without another look at the holds?"""
        batch = self.lease.batch
        age = self._clock() - batch.sent_at
        return age <= START_WITHIN_SECONDS or (batch.again and age <= START_AGAIN_WITHIN_SECONDS)

    def why_end(self) -> str | None:
        """Why the handler must be interrupted now: lost, stop or runtime. None if it may go on."""
        now = self._clock()
        if (self.lost and not self.settled) or now >= self.give_up_at:
            return "lost"
        if now >= self._stop.release_at:
            return "stop"
        if now >= self.runtime_deadline:
            return "runtime"
        return None

    def answer_by(self) -> float:
        """Until when a call on the handlers' connection may wait: until shortly before the dead man fires. What no
        interrupt ends (a settle, a COMMIT, a ROLLBACK) must not outlast max_runtime by much either."""
        if self.settled:
            return math.inf
        by = self.lease_deadline - self.kind.margin * ANSWER_MARGIN
        return by if self._armed else min(by, self.runtime_deadline + SETTLE_SECONDS)
