"""Whether enqueues shall wake this worker: not while they do so in vain again and again. Pure arithmetic.

NOTIFY serialises the commits of all who send one. It is worth that for a job that this worker can run; but somebody
may enqueue a thousand jobs a second of a kind that is paused, or that another worker is quicker to lease. A worker that
was woken in vain many times in quick succession asks not to be woken, and looks by itself after a nap.
"""

from __future__ import annotations

from collections import deque
from math import inf

IN_VAIN = 10
WITHIN_SECONDS = 0.1
# A worker that can be woken is woken by everybody, until its word that it can't is committed, behind all of them. So a
# nap is long beside that, and the longer the longer it goes on; a job that comes meanwhile waits for its end.
NAP_SECONDS = 0.05
LONGEST_NAP_SECONDS = 0.4
TIRED_SECONDS = 0.5


class Damping:
    """Learns what came of each wake-up.

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
        """A wake-up that led to a lease, or to none."""
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
        """For how many seconds it is better not to be woken; 0: it is good to be woken."""
        return self._nap if now < self._tired_until else 0.0
