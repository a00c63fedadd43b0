"""What goes to and fro between the loop and the database: the turns, and what is learnt from their answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from shithubd_worker.database.clock import Clock
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.host.signals import Stop
from shithubd_worker.turn.frontier import Frontier
from shithubd_worker.turn.prefetch import Pace
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.shares import Shares
from shithubd_worker.turn.tray import Ahead, Tray
from shithubd_worker.turn.upkeep import Upkeep
from shithubd_worker.turn.wire import Answer, Turn, Turns

if TYPE_CHECKING:
    from shithubd_worker.process.line import Line
    from shithubd_worker.telemetry.metrics import Metrics

_KIND = attrgetter("kind")

# A job that the database refuses to lease is passed over for so long, twice as long each time; so many are remembered.
PASS_OVER_SECONDS = 1.0
LONGEST_PASS_OVER_SECONDS = 60.0
MOST_PASSED_OVER = 1000
# At most so many turns in a row are careful before the usual way is tried again.
MOST_CAREFUL = 1024


class Exchange:
    """One turn after the other: what is finished goes from the tray to the database, what is leased comes onto it.

    `until_empty`: look for more from the start before believing that there is none.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        *,
        queue: QueueSession,
        turns: Turns,
        tray: Tray,
        frontier: Frontier,
        pace: Pace,
        shares: Shares,
        settler: Settler,
        upkeep: Upkeep,
        line: Line,
        clock: Clock,
        metrics: Metrics,
        stop: Stop,
        until_empty: bool,
    ) -> None:
        self._order = list(kinds)
        self._queue = queue
        self._turns = turns
        self._tray = tray
        self._frontier = frontier
        self._pace = pace
        self._shares = shares
        self._settler = settler
        self._upkeep = upkeep
        self._line = line
        self._clock = clock
        self._stepped_at = clock.stepped_at
        self._metrics = metrics
        self._stop = stop
        self._until_empty = until_empty
        self._careful = 0  # so many turns lease one job at a time, and settle apart
        self._next_careful = 1
        self._passed_over: dict[int, tuple[float, float]] = {}  # jobs: until when, and for how long

    @property
    def sent(self) -> bool:
        """Is there a turn whose answer was not read?"""
        return self._turns.sent is not None

    def turn(self, *, ahead: bool) -> bool:
        """One turn, the one that was sent ahead or a new one: its leases are on the tray then.

        With `ahead`, the next is sent if that is worth while. True if there may be more to lease at once, though this
        one gave none.
        """
        asked_at = time.monotonic()
        if self._turns.sent is None:
            self._send()
        self._tray.write_out()  # while the database is still at work
        try:
            answer = self._turns.receive()
        except BaseException:
            self.give_up()
            raise
        self._line.failures = 0
        self._tray.ahead = None
        if answer.turn.careful:
            self._careful -= 1
        elif answer.leases:
            self._next_careful = 1
        self._tray.leased.extend(answer.leases)
        again = self._learn(answer)
        settled = self._settler.answered(self._queue, answer.turn.settles.finished, answer.lost)
        try:
            if ahead:
                self._settler.resolve(self._queue)
                self._upkeep.do_what_is_due(idle=not self._tray.leased)
                if self._worth_sending_ahead(answer):
                    self._send()
        finally:
            self._settler.report(settled)
            self._metrics.leased(answer.leases, answer.received_at - asked_at)
        return again

    def finish(self) -> None:
        """Before anything else can be asked: read the answer to the turn that was sent ahead, if one was."""
        if self._turns.sent is not None:
            self.turn(ahead=False)

    def give_up(self) -> None:
        """Nobody will answer the turn that was sent: its settles are in doubt, its leases are to be given back."""
        turn = self._turns.forget()
        self._tray.ahead = None
        if turn is not None:
            self._tray.doubtful.extend(turn.settles.finished)
            self._upkeep.lost_answer(turn.token)

    def be_careful(self) -> None:
        """After a turn that the database refused: the next ones lease a single job each, so that one which is at fault
        shows itself, and settle before that, one by one if need be. Twice as many each time, until a usual one leases.
        """
        self._careful = self._next_careful
        self._next_careful = min(2 * self._next_careful, MOST_CAREFUL)

    def _pass_over(self, refused: Sequence[tuple[str, int, str]], now: float) -> None:
        for kind, job, why in refused:
            self._settler.refused(kind, job, "to lease it", why)
            _, before = self._passed_over.pop(job, (0.0, PASS_OVER_SECONDS / 2))
            while len(self._passed_over) >= MOST_PASSED_OVER:
                del self._passed_over[next(iter(self._passed_over))]
            seconds = min(2 * before, LONGEST_PASS_OVER_SECONDS)
            self._passed_over[job] = (now + seconds, seconds)

    def _skip(self, now: float) -> Sequence[int]:
        if not self._passed_over:
            return ()
        known = {job: each for job, each in self._passed_over.items() if each[0] + LONGEST_PASS_OVER_SECONDS > now}
        self._passed_over = known
        return [job for job, (until, _) in known.items() if until > now]

    def _learn(self, answer: Answer) -> bool:
        """Where to look next, and whose turn it is. True if there may be more to lease though this answer has none."""
        turn = answer.turn
        if answer.now:
            self._clock.saw(turn.sent_at, answer.now, answer.received_at)
            self._frontier.learn(turn.ranges[: answer.visited], answer.leases, answer.now)
            if turn.full:
                in_vain = turn.wakeable and not answer.leases
                self._frontier.looked(answer.received_at, answer.took, in_vain=in_vain)
        if self._clock.stepped_at != self._stepped_at:
            self._stepped_at = self._clock.stepped_at
            self._frontier.anew()  # set back, it hides jobs behind the points where scans ended
        self._line.deaf = answer.deaf
        if turn.woken:
            self._line.woke(leased=bool(answer.leases))
        for kind, priority in reversed(answer.walked):  # of each kind the first counts
            self._frontier.walked(kind, priority)
        self._pass_over(answer.refused, turn.sent_at)
        if not answer.leases and not turn.full and self._until_empty:
            self._frontier.anew()  # nothing from where the last scan ended: is there nothing at all?
            return True
        return bool(answer.walked or answer.refused)

    def _send(self) -> None:
        """Send a turn: settle what is finished, lease what is next."""
        careful = self._careful > 0
        if careful:
            self._tray.doubtful.extend(self._tray.take_finished())
            self._settler.resolve(self._queue)
        woken, wakeable = self._line.take_wakeup()
        self._order.sort(key=self._shares.start)
        now = time.monotonic()
        ranges, full = self._frontier.scan(self._order, now)
        most = {kind: 1 if careful else self._pace.most(kind) for kind in self._order}
        turn = Turn(
            self._tray.take_settles(),
            ranges,
            [most[each.kind] for each in ranges],
            full,
            woken,
            wakeable,
            self._skip(now),
            careful,
        )
        self._tray.ahead = Ahead(turn.token, turn.sent_at)
        try:
            self._turns.send(turn)
        except BaseException:
            self.give_up()
            raise

    def _worth_sending_ahead(self, answer: Answer) -> bool:
        """Is there more to lease, and so little work at hand that it may be sent for? Never once a stop is wanted, nor
        beside a job that is leased alone: if it kills this process, it shall take no other along."""
        leased = tuple(self._tray.leased)  # the control thread may just be giving them back
        if not leased or leased[0].crashes > 0 or not answer.more or self._stop.wanted:
            return False
        if answer.turn.careful or self._careful:
            return False
        return self._pace.worth_sending_ahead(map(_KIND, leased))
