"""The database's clock beside this process's own: what it may show now at the earliest, and whether somebody set it.

Leases and schedules go by the database's clock. A step of it makes leases that are good look expired, or those of the
dead look good. Nothing tells of a step but the monotonic clock: an answer that says what time it was bounds the
difference of the two, since it was made after its question was sent and before it was received.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from threading import Lock

from shithubd_worker.timing import CLOCK_DRIFT, CLOCK_SLACK_SECONDS


class Clock:
    """For both threads. `on_step` is told by how many seconds the database's clock was set, once a step.

    A host that was suspended finds that the database's clock went ahead meanwhile, which is a step as well: its own
    clock stood still, so nothing that it believes of leases holds.

    >>> clock = Clock(lambda seconds: print(round(seconds)))
    >>> clock.saw(10.0, 1010.0, 10.5); clock.saw(20.0, 1020.0, 20.25); round(clock.earliest(30.0), 1)
    1029.7
    >>> clock.saw(40.0, 4640.0, 40.5)
    3600
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
        drifted = CLOCK_DRIFT * (received_at - sent_at)
        low, high = now - received_at - drifted, now - sent_at + drifted
        step = 0.0
        with self._lock:
            drifted = CLOCK_DRIFT * (received_at - self.seen_at)
            old_low, old_high = self._low - drifted, self._high + drifted
            if low <= old_high and high >= old_low:  # both are right where they overlap
                self._low, self._high = max(low, old_low), min(high, old_high)
            else:
                if max(low - old_high, old_low - high) > CLOCK_SLACK_SECONDS:
                    step = (low + high - old_low - old_high) / 2
                    self.stepped_at = self.steady_since = received_at
                self._low, self._high = low, high
            if self.steady_since == inf:
                self.steady_since = received_at
            self.seen_at = received_at
        if step:
            self._on_step(step)

    def earliest(self, now: float) -> float:
        """What the database's clock shows at least, at this moment of ours, if nobody has set it; -inf: unknown."""
        return self._low + now
