"""How many jobs to lease at once: as many of a kind as its handler gets through in half a window. Pure arithmetic.

The worker holds at most two such batches, the one that it runs and the one that it has sent for, so an urgent job waits
for at most one window. Nothing is tuned: a slow kind is leased one by one, a fast one by the hundred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import inf

from shithubd_worker.timing import ASK_FOR_SECONDS

MOST_AT_ONCE = 500
GROWTH = 4


class Pace:
    """Learns how long the jobs of each kind take. `window` in seconds; 0: one job at a time."""

    def __init__(self, window: float) -> None:
        self.window = window
        self._seconds: dict[str, float] = {}  # one job of the kind
        self._limit: dict[str, int] = {}  # jobs of its next batch

    def most(self, kind: str, within: float = inf) -> int:
        """How many jobs of the kind to lease at once, so that they start `within` so many seconds; at least 1, and 1 of
        a kind that is not known yet.

        >>> pace = Pace(0.1)
        >>> pace.most("fast"), pace.ran("fast", jobs=100, seconds=0.001), pace.most("fast")
        (1, None, 400)
        """
        seconds = self._seconds.get(kind)
        if seconds is None or not self.window:
            return 1
        fit = min(self.window / 2, within) / seconds if seconds > 0 else MOST_AT_ONCE
        return int(max(1.0, min(fit, MOST_AT_ONCE, self._limit[kind])))

    def startable(self, kinds: Iterable[str]) -> int:
        """Of leases that need another look at the holds, named by the kinds of their jobs: for how many of the first to
        ask, so that most of them start before they need yet another. At least 1."""
        share = 0.0
        count = 0
        for kind in kinds:
            share += 1 / self.most(kind, ASK_FOR_SECONDS)
            if count and share > 1 + 1e-9:
                break
            count += 1
        return count

    def ran(self, kind: str, *, jobs: int, seconds: float, too_many: bool = False) -> None:
        """Learn from a batch: believed at once if it was slower than expected, else by halves. `seconds` is the time
        that went by, not only in handlers. `too_many`: others that were leased with it had to be given back."""
        mean = seconds / jobs
        known = self._seconds.get(kind, mean)
        self._seconds[kind] = max(mean, (known + mean) / 2)
        # Step by step: the first jobs of a kind may be its quick ones.
        grown = max(GROWTH * jobs, self._limit.get(kind, 1) // 2)
        self._limit[kind] = max(1, jobs // 2) if too_many else grown

    def stood_still(self, kind: str) -> None:
        """Leases of the kind grew too old, and not one of them started: for whatever reason, fewer of them."""
        if kind in self._limit:
            self._limit[kind] = max(1, self._limit[kind] // 2)

    def expected(self, kind: str, jobs: int) -> float:
        """How long so many jobs of the kind will take, in seconds; infinity if it is not known yet."""
        return self._seconds.get(kind, float("inf")) * jobs

    def worth_sending_ahead(self, kinds: Iterable[str]) -> bool:
        """Is a batch, named by the kinds of its jobs, so short that the next one may be sent for before it runs?"""
        if not self.window:
            return False
        return sum(self.expected(kind, jobs) for kind, jobs in Counter(kinds).items()) <= self.window / 2
