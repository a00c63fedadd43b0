"""Whether something became runnable since the last turn, and whether the next enqueue shall wake this worker."""

from __future__ import annotations

import time

from shithubd_worker.timing import DEAF_SECONDS
from shithubd_worker.turn.damping import Damping


class Wakeups:
    """For the main thread."""

    def __init__(self) -> None:
        self._damping = Damping()
        self._notified = False
        self._nap = 0.0  # seconds; not 0: nobody shall wake us
        self.deaf = False  # may it be that the next enqueue doesn't wake us? So says the last answer

    def heard(self) -> None:
        """A notification came."""
        self._notified = True

    @property
    def called(self) -> bool:
        """Did something become runnable since the last turn was sent, that is worth another one at once?"""
        return self._notified and not self._nap

    def take(self) -> tuple[bool, bool]:
        """For the turn that is sent now: is it the answer to a wake-up, and shall the next enqueue wake us?"""
        woken, self._notified = self._notified, False
        self._nap = self._damping.nap(time.monotonic()) if woken else 0.0
        return woken, not self._nap

    def woke(self, *, leased: bool) -> None:
        """What came of a wake-up."""
        self._damping.woke(time.monotonic(), leased=leased)

    def rest(self, at_most: float) -> tuple[float, bool]:
        """For how many seconds to rest, and whether a notification may end that."""
        if self._nap:
            return min(at_most, self._nap), False
        return min(at_most, DEAF_SECONDS) if self.deaf else at_most, True

    def rested(self) -> None:
        """What was notified during a nap, was by those who had not seen yet that we can't be woken. The turn that
        follows sees what they enqueued."""
        if self._nap:
            self._notified = False
