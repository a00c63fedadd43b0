"""The database's clock beside this process's own: what it may show now at the earliest, and whether somebody set it.

Leases and schedules go by the database's clock. A step of it makes leases that are good look expired, or those of the
dead look good. Nothing tells of a step but the monotonic clock: an answer that says what time it was bounds the
difference of the two, since it was made after its question was sent and before it was received.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from threading import Lock

# What a clock may be off its course between two answers without having been set: it is slewed (chrony does so by up to
# 8 %, and asks for more by a step), or it is a tick behind.
SLACK_SECONDS = 0.5
DRIFT = 0.1


class Clock:
    """For both threads. `on_step` is told by how many seconds the database's clock was set, once a step.

    A host that was suspended finds that the database's clock went ahead meanwhile, which is a step as well: its own
    clock stood still, so nothing that it believes of leases holds.

    >>> clock = Clock(print)
    >>> clock.saw(10.0, 1010.0, 10.5); clock.saw(20.0, 1020.0, 20.25); clock.earliest(30.0)
    1029.75
    >>> clock.saw(40.0, 4640.0, 40.5)
    3599.5
    """

    def __init__(self, on_step: Callable[[float], None]) -> None:
        self._on_step = on_step
        self._lock = Lock()
        self._low, self._high = -inf, inf  # the database's clock less ours
        self.seen_at = -inf  # when the last answer was received
        self.stepped_at = -inf  # when the last step was noticed
        self.steady_since = inf  # since when it has been watched without a step

    def saw(self, sent_at: float, now: float, received_at: float) -> None:
        """An answer: the database's clock showed `now`, somewhen between these moments of the monotonic clock."""
        if sent_at < self.seen_at:
            return  # the other thread has seen it later than this, or may have
        low, high = now - received_at, now - sent_at
        step = 0.0
        with self._lock:
            if low <= self._high and high >= self._low:  # both are right where they overlap
                self._low, self._high = max(low, self._low), min(high, self._high)
            else:
                gap = low - self._high if low > self._high else high - self._low
                if abs(gap) > SLACK_SECONDS + DRIFT * (received_at - self.seen_at):
                    step, self.stepped_at, self.steady_since = gap, received_at, received_at
                self._low, self._high = low, high
            if self.steady_since == inf:
                self.steady_since = received_at
            self.seen_at = received_at
        if step:
            self._on_step(step)

    def earliest(self, now: float) -> float:
        """What the database's clock shows at least, at this moment of ours, if nobody has set it; -inf: unknown."""
        return self._low + now
