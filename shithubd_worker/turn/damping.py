"""Whether enqueues should wake this worker: not while they do so in vain again and again. Pure arithmetic.

NOTIFY serialises the commits of all sessions that send one. A job that this worker can run is worth that. But an
application may enqueue a thousand jobs a second that this worker can't run: the kind is paused, or another worker
leases them first. A worker that was woken in vain many times in quick succession asks for no wake-ups, and polls after
a nap.
"""

from __future__ import annotations

from collections import deque
from math import inf

IN_VAIN = 10
WITHIN_SECONDS = 0.1
# Every enqueue wakes a worker that can be woken. When the worker asks for no more wake-ups, that is committed after all
# these enqueues. So a nap is long compared with that wait, and each nap is longer than the one before. A job that comes
# during a nap waits for its end.
NAP_SECONDS = 0.05
LONGEST_NAP_SECONDS = 0.4
TIRED_SECONDS = 0.5


class Damping:
    """Learns from the result of each wake-up.

    >>> worker = Damping()
    >>> for now in range(10): worker.woke(now / 1000, leased=False)
    >>> worker.nap(0.02), worker.nap(2.0)
    (0.05, 0.0)
    """

    def __init__(self) -> None:
        self._in_vain: deque[float] = deque(maxlen=IN_VAIN)
        self._tired_until = -inf
        self._nap = 0.0

    def woke(self, now: float, *, leased: bool) -> None:
        """A wake-up led to a lease, or to none."""
        if leased:
            self._in_vain.clear()
            self._tired_until = -inf
            return
        self._in_vain.append(now)
        if nap := self.nap(now):
            self._nap = min(2 * nap, LONGEST_NAP_SECONDS)
        elif len(self._in_vain) == IN_VAIN and now - self._in_vain[0] < WITHIN_SECONDS:
            self._nap = NAP_SECONDS
        else:
            return
        self._tired_until = now + self._nap + TIRED_SECONDS

    def nap(self, now: float) -> float:
        """For how many seconds the worker should not be woken. 0: it should be woken."""
        return self._nap if now < self._tired_until else 0.0
