"""Whether something became runnable since the last turn, and whether the next enqueue should wake this worker."""

from __future__ import annotations

import time

from shithubd_worker.timing import DEAF_SECONDS
from shithubd_worker.turn.damping import Damping


class Wakeups:
    """For the main thread."""

    def __init__(self) -> None:
        self._damping = Damping()
        self._notified = False
        self._nap = 0.0  # seconds; not 0: this worker asked not to be woken
        self.deaf = False  # does the last answer say that the next enqueue may not wake it?

    def heard(self) -> None:
        """A notification came."""
        self._notified = True

    @property
    def called(self) -> bool:
        """Is there a wake-up since the last turn was sent, and is it worth another turn at once?"""
        return self._notified and not self._nap

    def take(self) -> tuple[bool, bool]:
        """For the turn that is sent now: does it answer a wake-up, and should the next enqueue wake this worker?"""
        woken, self._notified = self._notified, False
        self._nap = self._damping.nap(time.monotonic()) if woken else 0.0
        return woken, not self._nap

    def woke(self, *, leased: bool) -> None:
        """A wake-up led to a lease, or to none."""
        self._damping.woke(time.monotonic(), leased=leased)

    def rest(self, at_most: float) -> tuple[float, bool]:
        """For how many seconds to rest, and whether a notification may end that."""
        if self._nap:
            return min(at_most, self._nap), False
        return min(at_most, DEAF_SECONDS) if self.deaf else at_most, True

    def rested(self) -> None:
        """Notifications during a nap came from sessions that did not yet see that this worker asked for none. The turn
        that follows sees what they enqueued."""
        if self._nap:
            self._notified = False
