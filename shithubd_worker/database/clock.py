"""The database's clock, compared with this process's own: what it shows now at least, and whether somebody has set it.

Leases and schedules go by the database's clock. A step of that clock can make good leases look expired, or the leases
of the dead look good. Only the monotonic clock shows a step. Each answer that carries the time bounds the difference of
the two clocks. That time was read after the question was sent and before the answer was received.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from threading import Lock

from shithubd_worker.timing import CLOCK_DRIFT, CLOCK_SLACK_SECONDS


class Clock:
    """For both threads. `on_step` is called once for each step, with the number of seconds by which the clock was set.

    A host that was suspended sees a step as well: its own clock stood still while the database's went on. So it must
    doubt its leases too.

    >>> clock = Clock(lambda seconds: print(round(seconds)))
    >>> clock.saw(10.0, 1010.0, 10.5); clock.saw(20.0, 1020.0, 20.25); round(clock.earliest(30.0), 1)
    1029.7
    >>> clock.saw(40.0, 4640.0, 40.5)
    3600
    """

    def __init__(self, on_step: Callable[[float], None]) -> None:
        self._on_step = on_step
        self._lock = Lock()
        self._low, self._high = -inf, inf  # the database's clock minus ours
        self.seen_at = -inf  # when the last answer was received
        self.stepped_at = -inf  # when the last step was noticed
        self.steady_since = inf  # since when the clock has been watched without a step

    def saw(self, sent_at: float, now: float, received_at: float) -> None:
        """An answer came: the database's clock showed `now` at some moment between these two of the monotonic clock."""
        if sent_at < self.seen_at:
            return  # the other thread may have a later answer
        drifted = CLOCK_DRIFT * (received_at - sent_at)
        low, high = now - received_at - drifted, now - sent_at + drifted
        step = 0.0
        with self._lock:
            drifted = CLOCK_DRIFT * (received_at - self.seen_at)
            old_low, old_high = self._low - drifted, self._high + drifted
            if low <= old_high and high >= old_low:  # both bounds hold where they overlap
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
        """What the database's clock shows at least, at this moment of ours, if nobody has set it. -inf if that is not
        known."""
        return self._low + now
