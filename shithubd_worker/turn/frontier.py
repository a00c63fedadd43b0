"""Where the next scan of the queue starts: where the last one ended. Pure arithmetic.

The index of queued jobs keeps an entry for each job that was leased until vacuum takes it away, which it can't while
any session holds a snapshot. A scan from the start would walk over all of them, each time. So a scan goes on where the
last one of the kind and priority ended. What lies behind that point is found by a look from the start: rows whose
transaction began earlier and ended later, rows flipped by hand, leases that were given back. It follows after a second
at the latest, or 200 times as long as the last one took: behind three million dead entries it takes 0.3 s, in which no
job starts, and that shall befall one job in two hundred, not one in twenty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import NamedTuple

from shithubd_worker.model import Lease

# At the end of the queue, a little before it: most transactions that overtook each other did so by less.
LOOK_BACK_SECONDS = 0.1
LEAST_ID = -(2**63)
START = (-inf, LEAST_ID)
RESCAN_SECONDS = 1.0
RESCAN_COST = 200
# What took longer was hardly work, but a wait: for a disk, a lock, a host that stood still. It must not put the next
# look off by a quarter of an hour.
MOST_COST_SECONDS = 0.3
# A notification may come from anybody who may connect, and thousands of them in a second. So the looks that they ask
# for take a twentieth of the time, and none waits for longer than a second, however long a look takes.
HEARD_COST = 20
# Of a kind so many priorities have a point of their own, those that gave something last. What they don't name is found
# by the ranges between them, priority by priority. A few stay even if they give nothing any more.
MOST_POINTS = 8
FEW_POINTS = 3
LEAST_PRIORITY, GREATEST_PRIORITY = -32768, 32767


class Throttle:
    """When to look at everything again: after a second, or so many times as long as the last look took."""

    def __init__(self, times: float = RESCAN_COST) -> None:
        self._times = times
        self._due_at = self._soonest_at = -inf

    def due(self, now: float) -> bool:
        """Is it time?"""
        return now >= self._due_at

    def due_in(self, now: float) -> float:
        """In how many seconds it is time; 0 or less: it is."""
        return self._due_at - now

    def looked(self, now: float, cost: float) -> None:
        """A look at everything ended at `now`; it took `cost` seconds."""
        cost = min(cost, MOST_COST_SECONDS)
        self._due_at = now + max(RESCAN_SECONDS, self._times * cost)
        self._soonest_at = now + min(RESCAN_SECONDS, HEARD_COST * cost)

    def hurry(self) -> None:
        """Something asks for a look at once."""
        self._due_at = -inf

    def hear(self) -> None:
        """Somebody asks for a look: at once, but not again and again."""
        self._due_at = min(self._due_at, self._soonest_at)


class Range(NamedTuple):
    """One range of the index: a kind, priorities from `low` to `high`, jobs behind `since` (seconds since 1970) and, of
    those due at just that moment, behind the id `after`."""

    kind: str
    low: int
    high: int
    since: float
    after: int


class Frontier:
    """The points at which the last scans ended, by kind and priority."""

    def __init__(self) -> None:
        self._points: dict[str, dict[int, tuple[float, int]]] = {}  # of a kind, the one that gave last comes last
        self._gave: set[tuple[str, int]] = set()  # since the last look at everything
        self._walked: dict[str, int] = {}  # up to which priority a walk got that was too long for one turn
        self._again = Throttle()
        self._full = False  # was the last scan a look at everything?
        self._in_vain = 0  # how many looks at everything in a row gave nothing

    def anew(self) -> None:
        """Look from the start next time: something became runnable that may lie behind."""
        self._again.hurry()
        self._in_vain = 0

    def heard(self) -> None:
        """The same, says a notification."""
        self._again.hear()

    def patience(self, now: float, at_most: float) -> float:
        """How long to sleep if nothing wakes us: what may lie behind the last scan waits for the next look at
        everything, not for a poll that may be long.

        So does an enqueue that a worker just missed: it saw nobody at rest, and so wakes nobody, but was committed
        after the look with which the worker went to rest. The second look in a row finds it.
        """
        at_rest = self._full and self._in_vain > 1
        return at_most if at_rest else max(0.0, min(at_most, self._again.due_in(now)))

    def scan(self, kinds: Iterable[str], now: float) -> tuple[list[Range], bool]:
        """The ranges to look at next, and whether that is a look at everything. `now` is on the monotonic clock."""
        full = self._full = self._again.due(now)
        return [each for kind in kinds for each in self._ranges(kind, full=full)], full

    def _ranges(self, kind: str, *, full: bool) -> Iterable[Range]:
        """The known priorities from their points on, and the gaps between them, behind what was walked already."""
        after = begin = self._walked.get(kind, LEAST_PRIORITY - 1) + 1
        for priority, point in sorted(self._points.get(kind, {}).items()):
            if priority > after:
                yield Range(kind, after, priority - 1, *START)
            yield Range(kind, priority, priority, *(START if full else point))
            after = max(begin, priority + 1)
        if after <= GREATEST_PRIORITY:
            yield Range(kind, after, GREATEST_PRIORITY, *START)

    def looked(self, now: float, cost: float, *, in_vain: bool) -> None:
        """A look at everything ended at `now` (monotonic) and took `cost` seconds. If it was cheap, no dead entries lie
        anywhere: then priorities that gave nothing since the last one need no points. `in_vain`: it gave nothing, and
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
        """`ranges` were looked at to their end, by the database's clock at `now`; `leases` is what that and one range
        more gave.

        At its end nothing lies before `now`. The point of the one that was not looked at to its end goes to the last
        job that it gave, even back: then there may be more behind that one.
        """
        if leases:
            self._in_vain = 0
        for (kind, priority), lease in {(each.kind, each.priority): each for each in leases}.items():  # the last ones
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
        """The priorities that have no points were looked at up to this one, and gave nothing: go on behind it."""
        self._walked[kind] = priority
