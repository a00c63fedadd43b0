"""What the next turn asks for: which kinds first, from which point on, how many jobs. The answers before it decide."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from operator import attrgetter

from shithubd_worker.database.clock import Clock
from shithubd_worker.model import Lease
from shithubd_worker.turn.caution import Caution
from shithubd_worker.turn.frontier import Frontier
from shithubd_worker.turn.prefetch import Pace
from shithubd_worker.turn.shares import Shares
from shithubd_worker.turn.tray import Settles
from shithubd_worker.turn.wakeups import Wakeups
from shithubd_worker.turn.wire import Answer, Turn

_KIND = attrgetter("kind")


class Selection:
    """For the main thread. `window`: how many seconds of work to lease ahead for quick kinds; 0 means one job at a
    time. `until_empty`: look from the start once more before the queue counts as empty."""

    def __init__(
        self,
        kinds: Sequence[str],
        clock: Clock,
        window: float,
        *,
        until_empty: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._order = list(kinds)
        self._clock = clock
        self._stepped_at = clock.stepped_at
        self.until_empty = until_empty
        self._again = math.inf  # in how many seconds a ramp may let more jobs through
        self._monotonic = monotonic
        self._frontier, self._shares = Frontier(), Shares()
        self.pace, self.caution, self.wakeups = Pace(window), Caution(), Wakeups()

    def turn(self, settles: Settles) -> Turn:
        """The next turn. It settles `settles`."""
        careful = self.caution.wanted
        woken, wakeable = self.wakeups.take()
        self._order.sort(key=self._shares.start)
        now = self._monotonic()
        ranges, full = self._frontier.scan(self._order, now)
        most = {kind: 1 if careful else self.pace.most(kind) for kind in self._order}
        counts = [most[each.kind] for each in ranges]
        return Turn(settles, ranges, counts, full, woken, wakeable, self.caution.skip(now), careful)

    def learn(self, answer: Answer) -> bool:
        """Learn from an answer. True if there may be more to lease, though this answer has no lease."""
        turn = answer.turn
        self.caution.answered(careful=turn.careful, leased=bool(answer.leases))
        if answer.now:
            self._clock.saw(turn.sent_at, answer.now, answer.received_at)
            visited = [each for each in turn.ranges[: answer.visited] if each.kind not in answer.shut]
            self._frontier.learn(visited, answer.leases, answer.now)
            if turn.full:
                in_vain = turn.wakeable and not answer.leases
                self._frontier.looked(answer.received_at, answer.took, in_vain=in_vain)
        if self._clock.stepped_at != self._stepped_at:
            self._stepped_at = self._clock.stepped_at
            self._frontier.anew()  # a clock that was set back hides jobs before the points
        self.wakeups.deaf = answer.deaf
        self._again = answer.again
        if turn.woken:
            self.wakeups.woke(leased=bool(answer.leases))
        for kind, priority in reversed(answer.walked):  # of each kind, the first entry counts
            self._frontier.walked(kind, priority)
        self.caution.pass_over((job for _, job, _ in answer.refused), turn.sent_at)
        if not answer.leases and not turn.full and self.until_empty:
            self._frontier.anew()  # nothing after the points: look whether there is nothing at all
            return True
        return bool(answer.walked or answer.refused)

    def worth_sending_ahead(self, answer: Answer, leased: Sequence[Lease]) -> bool:
        """Is there more to lease, and is little enough at hand to ask for it now? Never beside a job that is leased
        alone: if that job kills this process, no other job may be lost with it."""
        if not leased or leased[0].crashes > 0 or not answer.more:
            return False
        if answer.turn.careful or self.caution.wanted:
            return False
        return self.pace.worth_sending_ahead(map(_KIND, leased))

    def heard(self, payload: str) -> None:
        """A notification came. The payload `anew` says that a scan from the start may be needed."""
        self.wakeups.heard()
        if payload == "anew":
            self._frontier.heard()

    def anew(self) -> None:
        """Look from the start next time: nobody knows any more what lies before the points."""
        self._frontier.anew()

    def ran(self, kind: str, *, jobs: int, seconds: float, too_many: bool) -> None:
        """Jobs of the kind took `seconds`, with everything that was between them. `too_many`: other leases of their
        batch had to be given back."""
        self.pace.ran(kind, jobs=jobs, seconds=seconds, too_many=too_many)
        self._shares.ran(kind, seconds)

    def rest(self, poll_interval: float) -> tuple[float, bool]:
        """For how many seconds to rest, and whether a notification may end that."""
        return self.wakeups.rest(min(self._again, self._frontier.patience(self._monotonic(), poll_interval)))
