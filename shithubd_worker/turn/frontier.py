"""Where the next scan of the queue starts: where the last one ended. Pure arithmetic.

The index of queued jobs keeps an entry for each leased job until vacuum removes it. Vacuum can't remove it while any
session holds a snapshot. A scan from the start would walk over all these entries each time. So a scan starts where the
last one of its kind and priority ended.

Jobs can also appear before that point: a transaction began earlier and committed later, a row was changed by hand, a
lease was given back. A look from the start finds them. The next such look begins after one second, or after 200 times
as long as the last one took. Behind three million dead entries a look takes 0.3 s, and no job starts meanwhile. So that
delay meets one job in two hundred.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import NamedTuple

from shithubd_worker.model import Lease

# At the end of the queue the point lies this much before it. Most transactions that overtook each other did so by less.
LOOK_BACK_SECONDS = 0.1
LEAST_ID = -(2**63)
START = (-inf, LEAST_ID)
RESCAN_SECONDS = 1.0
RESCAN_COST = 200
# A longer time was hardly work, but a wait for a disk, a lock, or a host that stood still. It must not delay the next
# look by a quarter of an hour.
MOST_COST_SECONDS = 0.3
# Anybody who may connect can send a notification, and thousands of them in a second. So the looks that notifications
# ask for take a twentieth of the time. A look of more than 0.05 s takes more, because none waits longer than a second.
HEARD_COST = 20
# In each kind so many priorities have a point of their own: those that gave a job last. The ranges between them find
# the other priorities, one after the other. A few points stay even if their priorities give no jobs any more.
MOST_POINTS = 8
FEW_POINTS = 3
LEAST_PRIORITY, GREATEST_PRIORITY = -32768, 32767


class Throttle:
    """When to look at everything again: after a second, or after `times` as long as the last look took."""

    def __init__(self, times: float = RESCAN_COST) -> None:
        self._times = times
        self._due_at = self._soonest_at = -inf

    def due(self, now: float) -> bool:
        """Is it time to look?"""
        return now >= self._due_at

    def due_in(self, now: float) -> float:
        """In how many seconds it is time. 0 or less: it is time now."""
        return self._due_at - now

    def looked(self, now: float, cost: float) -> None:
        """A look at everything ended at `now`. It took `cost` seconds."""
        cost = min(cost, MOST_COST_SECONDS)
        self._due_at = now + max(RESCAN_SECONDS, self._times * cost)
        self._soonest_at = now + min(RESCAN_SECONDS, HEARD_COST * cost)

    def hurry(self) -> None:
        """A look is needed at once."""
        self._due_at = -inf

    def hear(self) -> None:
        """A notification asks for a look. It comes at once, but not again and again."""
        self._due_at = min(self._due_at, self._soonest_at)


class Range(NamedTuple):
    """One range of the index: a kind, priorities from `low` to `high`, and the jobs after a point. The point is a time
    (`since`, seconds since 1970), and an id among the jobs of exactly that time (`after`)."""

    kind: str
    low: int
    high: int
    since: float
    after: int


class Frontier:
    """The points at which the last scans ended, by kind and priority."""

    def __init__(self) -> None:
        # in each kind, the priority that gave last stands last
        self._points: dict[str, dict[int, tuple[float, int]]] = {}
        self._gave: set[tuple[str, int]] = set()  # priorities that gave a job since the last look at everything
        self._walked: dict[str, int] = {}  # per kind: the priority up to which an unfinished walk got
        self._again = Throttle()
        self._full = False  # was the last scan a look at everything?
        self._in_vain = 0  # how many looks at everything in a row gave nothing

    def anew(self) -> None:
        """Look from the start next time: something became runnable that may lie before a point."""
        self._again.hurry()
        self._in_vain = 0

    def heard(self) -> None:
        """A notification says that something may lie before a point."""
        self._again.hear()

    def patience(self, now: float, at_most: float) -> float:
        """How long to sleep if no wake-up comes. Jobs before the last scan's points wait for the next look at
        everything, not for the poll, which may be far away.

        The same look finds an enqueue that missed the worker. Such an enqueue saw no worker at rest, so it sent no
        wake-up, but it was committed after the worker's last look. The second look in a row finds it.
        """
        at_rest = self._full and self._in_vain > 1
        return at_most if at_rest else max(0.0, min(at_most, self._again.due_in(now)))

    def scan(self, kinds: Iterable[str], now: float) -> tuple[list[Range], bool]:
        """The ranges to look at next, and whether they are a look at everything. `now` is on the monotonic clock."""
        full = self._full = self._again.due(now)
        return [each for kind in kinds for each in self._ranges(kind, full=full)], full

    def _ranges(self, kind: str, *, full: bool) -> Iterable[Range]:
        """The known priorities from their points on, and the gaps between them, after what was walked already."""
        after = begin = self._walked.get(kind, LEAST_PRIORITY - 1) + 1
        for priority, point in sorted(self._points.get(kind, {}).items()):
            if priority > after:
                yield Range(kind, after, priority - 1, *START)
            yield Range(kind, priority, priority, *(START if full else point))
            after = max(begin, priority + 1)
        if after <= GREATEST_PRIORITY:
            yield Range(kind, after, GREATEST_PRIORITY, *START)

    def looked(self, now: float, cost: float, *, in_vain: bool) -> None:
        """A look at everything ended at `now` (monotonic) and took `cost` seconds. If it was cheap, there are no dead
        entries; then priorities that gave nothing since the last look need no points. `in_vain`: it gave nothing, and
        the next enqueue wakes this worker."""
        self._again.looked(now, cost)
        self._in_vain = self._in_vain + 1 if in_vain else 0
        if RESCAN_COST * cost <= RESCAN_SECONDS:
            for kind, points in self._points.items():
                idle = [priority for priority in points if (kind, priority) not in self._gave]
                for priority in idle[: max(0, len(points) - FEW_POINTS)]:
                    del points[priority]
            self._gave.clear()

    def learn(self, ranges: Sequence[Range], leases: Sequence[Lease], now: float) -> None:
        """The database looked at `ranges` to their end, at `now` by its clock. `leases` came from these and from one
        range more.

        A range that was looked at to its end has no job that is due before `now`. In the range that was not finished,
        the point moves to the last job that it gave, even backwards. There may be more jobs after that job.
        """
        if leases:
            self._in_vain = 0
        # the last one of each
        for (kind, priority), lease in {(each.kind, each.priority): each for each in leases}.items():
            points = self._points.setdefault(kind, {})
            points.pop(priority, None)
            points[priority] = (lease.run_at, lease.id)
            self._gave.add((kind, priority))
            self._walked.pop(kind, None)
            if len(points) > MOST_POINTS:
                longest_idle = next(iter(points))
                del points[longest_idle]
                self._gave.discard((kind, longest_idle))
        end = (now - LOOK_BACK_SECONDS, LEAST_ID)
        for each in ranges:
            points = self._points.get(each.kind, {})
            points.update((priority, end) for priority in points if each.low <= priority <= each.high)
            if each.high == GREATEST_PRIORITY:
                self._walked.pop(each.kind, None)

    def walked(self, kind: str, priority: int) -> None:
        """The priorities without points were looked at up to this one, and gave nothing. The next walk goes on after
        it."""
        self._walked[kind] = priority
