"""The jobs at hand: leased and not started, finished and not settled. What the two threads share of the hot path.

The main thread takes the next job from the one end and puts what came of it on the other. While a handler turns slow
the control thread takes the rest: it settles what is finished and gives back what is not started. Each job is taken by
one of them only: a deque's popleft is atomic. So nobody looks whether there is one and takes it then: he takes it, and
hears by IndexError that the other one had it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from shithubd_worker.database.arrays import settle_arguments
from shithubd_worker.model import NOT_STARTED, Finished, Lease

T = TypeVar("T")


class Settles(NamedTuple):
    """What is to be settled, and how a query says it."""

    finished: Sequence[Finished]
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, finished: Sequence[Finished]) -> Settles:
        """Write them out."""
        return cls(finished, settle_arguments(finished))


@dataclass(slots=True)
class Ahead:
    """A lease query that was sent ahead, until its answer is read."""

    token: str
    sent_at: float
    # Written by the control thread alone. It gives back what has this token in the database: whichever query the main
    # thread goes on to meanwhile has another, and is another of these.
    given_back: bool = False


class Tray:
    """See the module."""

    def __init__(self) -> None:
        self.leased: deque[Lease] = deque()
        self.finished: deque[Finished] = deque()
        self._written: deque[Settles] = deque()  # of those some, written out for a query; one at most
        # Sent to the database and not answered: perhaps settled, perhaps not.
        self.doubtful: deque[Finished] = deque()
        # Written by the main thread alone. The control thread reads it once, and goes by what it has read.
        self.ahead: Ahead | None = None
        # Written by the control thread alone: leases that it gave back, ever; may it have some in hand just now?
        self.given_back = 0
        self.relieving = False
        self.reliefs = 0  # how often it began to, ever

    @property
    def at_hand(self) -> bool:
        """Is there anything that a slow handler would keep from others?"""
        ahead = self.ahead
        return bool(self.leased or self.unsettled or (ahead is not None and not ahead.given_back))

    @property
    def unanswered(self) -> list[str]:
        """The token of the lease query that was sent ahead, if there is one."""
        ahead = self.ahead
        return [] if ahead is None else [ahead.token]

    @property
    def unsettled(self) -> bool:
        """Is there anything to be settled?"""
        return bool(self.finished or self._written)

    def leased_at(self) -> float | None:
        """When the lease of the job whose turn it is was sent; None if there is none."""
        try:
            return self.leased[0].sent_at
        except IndexError:  # the other thread has just taken it
            return None

    def next(self) -> Lease | None:
        """Take the job whose turn it is."""
        try:
            return self.leased.popleft()
        except IndexError:
            return None

    def take_leased(self) -> list[Lease]:
        """Take all that is not started."""
        return _drain(self.leased)

    def give_back(self, leases: Iterable[Lease]) -> None:
        """Release what was not started, with the next settle. The history keeps nothing of it."""
        self.finished.extend(Finished(each, NOT_STARTED, "none", 0.0) for each in leases)

    def take_finished(self) -> list[Finished]:
        """Take all that is to be settled."""
        return [*(each for written in _drain(self._written) for each in written.finished), *_drain(self.finished)]

    def write_out(self) -> None:
        """Write out what is to be settled ahead of `take_settles`: while the database is still busy with the query
        before, so that it needn't wait for this afterwards."""
        finished = self.take_finished()
        if finished:
            self._written.append(Settles.of(finished))

    def take_settles(self) -> Settles:
        """Take all that is to be settled, written out."""
        if self.finished:
            self.write_out()
        try:
            return self._written.popleft()
        except IndexError:  # there is none, or the other thread has just taken it
            return Settles.of(())

    def take_doubtful(self) -> list[Finished]:
        """Take all whose settle got no answer."""
        return _drain(self.doubtful)


def _drain(items: deque[T]) -> list[T]:
    taken = []
    while items:
        try:
            taken.append(items.popleft())
        except IndexError:  # the other thread had the last one
            break
    return taken
