"""How many jobs to lease at once: as many of a kind as its handler gets through in half a window. Pure arithmetic.

The worker holds at most two such batches, the one that it runs and the one that it has sent for, so an urgent job waits
for at most one window. Nothing is tuned: a slow kind is leased one by one, a fast one by the hundred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MOST_AT_ONCE = 500
GROWTH = 4


class Pace:
    """Learns how long the jobs of each kind take. `window` in seconds; 0: one job at a time."""

    def __init__(self, window: float) -> None:
        self.window = window
        self._seconds: dict[str, float] = {}  # one job of the kind
        self._last: dict[str, int] = {}  # jobs of its last batch

    def most(self, kind: str) -> int:
        """How many jobs of the kind to lease at once, at least 1; 1 of a kind that is not known yet.

        >>> pace = Pace(0.1)
        >>> pace.most("fast"), pace.ran("fast", jobs=100, seconds=0.001), pace.most("fast")
        (1, None, 400)
        """
        seconds = self._seconds.get(kind)
        if seconds is None or not self.window:
            return 1
        fit = self.window / 2 / seconds if seconds > 0 else MOST_AT_ONCE
        # Step by step: the first jobs of a kind may be its quick ones.
        return int(max(1.0, min(fit, MOST_AT_ONCE, GROWTH * self._last[kind])))

    def ran(self, kind: str, *, jobs: int, seconds: float) -> None:
        """Learn from a batch: believed at once if it was slower than expected, else by halves."""
        mean = seconds / jobs
        known = self._seconds.get(kind, mean)
        self._seconds[kind] = max(mean, (known + mean) / 2)
        self._last[kind] = max(jobs, self._last.get(kind, 1) // 2)

    def expected(self, kind: str, jobs: int) -> float:
        """How long so many jobs of the kind will take, in seconds; infinity if it is not known yet."""
        return self._seconds.get(kind, float("inf")) * jobs

    def worth_sending_ahead(self, kinds: Iterable[str]) -> bool:
        """Is a batch, named by the kinds of its jobs, so short that the next one may be sent for before it runs?"""
        if not self.window:
            return False
        return sum(self.expected(kind, jobs) for kind, jobs in Counter(kinds).items()) <= self.window / 2
