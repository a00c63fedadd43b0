"""A look at the database's clock, and at whether enqueues wake the main thread. While turns come, they do both."""

from __future__ import annotations

from collections.abc import Callable

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.database.clock import Clock
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.timing import CLOCK_LOOK_SECONDS


class ClockLook:
    """`clock` notices whether somebody has set the database's clock."""

    def __init__(self, session: ControlSession, clock: Clock, wake_main: Callable[[], None]) -> None:
        self._session = session
        self._clock = clock
        self._wake_main = wake_main

    def tick(self, now: float, _attempt: Attempt | None) -> None:
        """Look, unless a turn has shown the clock lately."""
        if now - self._clock.seen_at >= CLOCK_LOOK_SECONDS:
            self._session.look_at_clock(self._clock)
            if not self._session.wakes_come():
                self._wake_main()  # it may sleep for long; its next turn finds the same
