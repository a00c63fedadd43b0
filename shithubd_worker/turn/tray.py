"""The jobs at hand: leased and not started, or finished and not settled. The two threads share them on the hot path.

The main thread takes the next job from one end, and puts its outcome onto the other. While a handler is slow, the
control thread takes the rest: it settles what is finished and gives back what has not started. Only one thread gets
each job, because a deque's popleft is atomic. So a thread does not first look whether there is a job. It takes one, and
an IndexError says that the other thread took the last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from shithubd_worker.database.arrays import settle_arguments
from shithubd_worker.model import NOT_STARTED, Finished, Lease
from shithubd_worker.timing import GIVE_BACK_AFTER_SECONDS

T = TypeVar("T")


class Settles(NamedTuple):
    """What is to be settled, and the same as arguments of a query."""

    finished: Sequence[Finished]
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, finished: Sequence[Finished]) -> Settles:
        """Make the arguments for these."""
        return cls(finished, settle_arguments(finished))


@dataclass(slots=True)
class Ahead:
    """A turn that was sent, until its answer is read."""

    token: str
    sent_at: float
    # What the turn settles. At most one entry: the thread that takes it finds out what became of these jobs.
    settles: deque[Sequence[Finished]] = field(default_factory=deque)
    # Only the control thread writes this. It gives back the leases that carry this token in the database. If the main
    # thread sends another query meanwhile, that query has another token and another object of this class.
    given_back: bool = False
    # Only the main thread writes this. Until the turn has left, the control thread does not take its settles.
    left: bool = False

    @property
    def unanswered(self) -> Sequence[Finished]:
        """What the turn settles. Nothing if a thread has taken it."""
        try:
            return self.settles[0]
        except IndexError:
            return ()

    def take_settles(self) -> Sequence[Finished]:
        """Take what the turn settles: its answer was read, or is not awaited any more. Nothing if the other thread has
        taken it."""
        try:
            return self.settles.popleft()
        except IndexError:
            return ()


class Tray:
    """The tray."""

    def __init__(self) -> None:
        self.leased: deque[Lease] = deque()
        self.finished: deque[Finished] = deque()
        self._written: deque[Settles] = deque()  # finished jobs, written out for a query; at most one entry
        # Sent to the database without an answer: settled, or not.
        self.doubtful: deque[Finished] = deque()
        # Only the main thread writes this. The control thread reads it once, and works with what it read.
        self.ahead: Ahead | None = None
        # Only the control thread writes these three: how many leases it gave back so far, whether it may have some in
        # hand, and how often it began to give back.
        self.given_back = 0
        self.relieving = False
        self.reliefs = 0

    @property
    def at_hand(self) -> bool:
        """Is there anything that a slow handler would hold back?"""
        ahead = self.ahead
        return bool(self.leased or self.unsettled or (ahead is not None and not ahead.given_back))

    @property
    def unanswered(self) -> list[str]:
        """The token of the lease query that was sent ahead, if there is one."""
        ahead = self.ahead
        return [] if ahead is None else [ahead.token]

    @property
    def unsettled(self) -> bool:
        """Is there anything to settle?"""
        return bool(self.finished or self._written)

    def leased_at(self) -> float | None:
        """When the lease query of the next job was sent. None if there is no job."""
        try:
            return self.leased[0].sent_at
        except IndexError:  # the other thread has just taken it
            return None

    def next(self) -> Lease | None:
        """Take the next job. None if there is none."""
        try:
            return self.leased.popleft()
        except IndexError:
            return None

    def take_leased(self) -> list[Lease]:
        """Take all leases that have not started."""
        return _drain(self.leased)

    def give_back(self, leases: Iterable[Lease]) -> None:
        """Release leases that have not started, with the next settle. The history gets no row of them."""
        self.finished.extend(Finished(each, NOT_STARTED, "none", 0.0) for each in leases)

    def take_finished(self) -> list[Finished]:
        """Take all that is to be settled."""
        return [*(each for written in _drain(self._written) for each in written.finished), *_drain(self.finished)]

    def write_out(self) -> None:
        """Write out what is to be settled, before `take_settles` needs it. The database is still busy with the query
        before, so this costs no waiting time later."""
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

    @property
    def sent(self) -> Sequence[Finished]:
        """What the turn without an answer settles."""
        ahead = self.ahead
        return () if ahead is None else ahead.unanswered

    def take_sent(self) -> Sequence[Finished]:
        """Take what the turn without an answer settles. For the main thread."""
        return () if self.ahead is None else self.ahead.take_settles()

    def overdue(self, now: float) -> bool:
        """Is there no answer yet to a turn that was sent a while ago?"""
        ahead = self.ahead
        return ahead is not None and not ahead.given_back and now - ahead.sent_at >= GIVE_BACK_AFTER_SECONDS

    def take_doubtful(self) -> list[Finished]:
        """Take all jobs whose settle got no answer."""
        return _drain(self.doubtful)


def _drain(items: deque[T]) -> list[T]:
    taken = []
    while items:
        try:
            taken.append(items.popleft())
        except IndexError:  # the other thread had the last one
            break
    return taken
