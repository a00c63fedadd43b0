"""After the database refused a turn: settle apart, lease one job at a time, pass over the one at fault. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# A job that the database refuses to lease is passed over for this long, then twice as long each time, up to the second
# value. The third value limits how many such jobs are remembered.
PASS_OVER_SECONDS = 1.0
LONGEST_PASS_OVER_SECONDS = 60.0
MOST_PASSED_OVER = 1000
# At most so many turns in a row are careful. Then the usual way is tried again.
MOST_CAREFUL = 1024


class Caution:
    """A careful turn leases a single job, so that a job at fault shows itself. What is finished is settled before it,
    one by one if that is needed.

    After a wait for a lock in vain, most often only a settle is at fault. Then the next turn leases as usual. The lock
    may be one of the application that every settle waits for. Careful turns would lease one job for each such wait.
    """

    def __init__(self) -> None:
        self._apart = False
        self._careful = 0  # how many turns are still to be careful
        self._next = 1
        self._passed_over: dict[int, tuple[float, float]] = {}  # job → until when, and for how long

    @property
    def wanted(self) -> bool:
        """Must the next turn be careful?"""
        return self._careful > 0

    @property
    def apart(self) -> bool:
        """Must what is finished be settled before the next turn, and not in it?"""
        return self._apart or self.wanted

    def raise_it(self, *, locked: bool = False) -> None:
        """A turn was refused. The next ones are careful: twice as many each time, until a usual turn leases something.
        `locked`: it waited for a lock in vain."""
        if locked and not self._apart:
            self._apart = True
            return
        self._careful = self._next
        self._next = min(2 * self._next, MOST_CAREFUL)

    def answered(self, *, careful: bool, leased: bool) -> None:
        """A turn was answered."""
        self._apart = False
        if careful:
            self._careful -= 1
        elif leased:
            self._next = 1

    def pass_over(self, jobs: Iterable[int], now: float) -> None:
        """The database refuses to lease these jobs."""
        for job in jobs:
            _, before = self._passed_over.pop(job, (0.0, PASS_OVER_SECONDS / 2))
            while len(self._passed_over) >= MOST_PASSED_OVER:
                del self._passed_over[next(iter(self._passed_over))]
            seconds = min(2 * before, LONGEST_PASS_OVER_SECONDS)
            self._passed_over[job] = (now + seconds, seconds)

    def skip(self, now: float) -> Sequence[int]:
        """The jobs that the next turn passes over."""
        if not self._passed_over:
            return ()
        known = {job: each for job, each in self._passed_over.items() if each[0] + LONGEST_PASS_OVER_SECONDS > now}
        self._passed_over = known
        return [job for job, (until, _) in known.items() if until > now]
