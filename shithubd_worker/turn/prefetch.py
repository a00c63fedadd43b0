"""How many jobs to lease at once: as many of a kind as its handler finishes in half a window. Pure arithmetic.

The worker holds at most two such batches: the one that it runs, and the one that it has asked for. So an urgent job
waits for at most one window. Nothing is tuned by hand: a slow kind is leased one by one, a fast one by the hundred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import inf

from shithubd_worker.timing import ASK_FOR_SECONDS

MOST_AT_ONCE = 500
GROWTH = 4


class Pace:
    """Learns how long the jobs of each kind take. `window` is in seconds; 0 means one job at a time."""

    def __init__(self, window: float) -> None:
        self.window = window
        self._seconds: dict[str, float] = {}  # kind → seconds of one job
        self._limit: dict[str, int] = {}  # kind → most jobs of its next batch

    def most(self, kind: str, within: float = inf) -> int:
        """How many jobs of the kind to lease at once, so that all of them start within `within` seconds. At least 1.
        For a kind that is not known yet, 1.

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
        """How many of these leases to ask for in another look at the holds, from the first on. Most of them should
        start before they need yet another look. `kinds` are the kinds of the leases. At least 1."""
        share = 0.0
        count = 0
        for kind in kinds:
            share += 1 / self.most(kind, ASK_FOR_SECONDS)
            if count and share > 1 + 1e-9:
                break
            count += 1
        return count

    def ran(self, kind: str, *, jobs: int, seconds: float, too_many: bool = False) -> None:
        """Learn from a batch. A batch that was slower than expected counts in full, a quicker one by half. `seconds` is
        all the time that went by, not only that in handlers. `too_many`: other leases of the batch had to be given
        back."""
        mean = seconds / jobs
        known = self._seconds.get(kind, mean)
        self._seconds[kind] = max(mean, (known + mean) / 2)
        # The limit grows step by step: the first jobs of a kind may be its quick ones.
        grown = max(GROWTH * jobs, self._limit.get(kind, 1) // 2)
        self._limit[kind] = max(1, jobs // 2) if too_many else grown

    def stood_still(self, kind: str) -> None:
        """Leases of the kind grew too old, and not one of them started. Lease fewer next time, no matter what the
        reason was."""
        if kind in self._limit:
            self._limit[kind] = max(1, self._limit[kind] // 2)

    def expected(self, kind: str, jobs: int) -> float:
        """How many seconds so many jobs of the kind take. Infinity if the kind is not known yet."""
        return self._seconds.get(kind, float("inf")) * jobs

    def worth_sending_ahead(self, kinds: Iterable[str]) -> bool:
        """Is a batch with jobs of these kinds so short that the next batch may be asked for before it runs?"""
        if not self.window:
            return False
        return sum(self.expected(kind, jobs) for kind, jobs in Counter(kinds).items()) <= self.window / 2
