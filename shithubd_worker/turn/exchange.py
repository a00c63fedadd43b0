"""What the loop and the database exchange: the turns, and what their answers lead to."""

from __future__ import annotations

import time
from collections import deque
from enum import Enum

from shithubd_worker.database.failures import DatabaseError, lost
from shithubd_worker.host.signals import Stop
from shithubd_worker.model import Finished
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.turn.selection import Selection
from shithubd_worker.turn.settling import Settler, told_apart
from shithubd_worker.turn.tray import Ahead, Tray
from shithubd_worker.turn.upkeep import Upkeep
from shithubd_worker.turn.wire import Answer, Wire


class Next(Enum):
    """What to do after a turn."""

    WORK = "there are jobs at hand"
    AGAIN = "there may be more to lease, or to settle, at once"
    REST = "there is nothing to do"
    END = "there is nothing to do, for certain, and the worker was to end then"


class Exchange:
    """One turn after the other: what is finished goes from the tray to the database, and what is leased goes onto the
    tray."""

    def __init__(
        self,
        wire: Wire,
        tray: Tray,
        selection: Selection,
        settler: Settler,
        upkeep: Upkeep,
        stop: Stop,
        metrics: Metrics,
    ) -> None:
        self._wire = wire
        self._queue = wire.queue
        self._tray = tray
        self._selection = selection
        self._settler = settler
        self._upkeep = upkeep
        self._stop = stop
        self._metrics = metrics
        self.answered = 0  # number of turns

    @property
    def unsettled(self) -> bool:
        """Is there anything to settle or to give back?"""
        return bool(self._tray.doubtful or self._tray.at_hand)

    @property
    def strays(self) -> list[str]:
        """The tokens of lease queries whose answers were not read."""
        # This order is for the control thread: `give_up` moves a token from the first list to the second.
        return self._tray.unanswered + self._upkeep.strays

    def turn(self) -> Next:
        """Do one turn: the one that was sent ahead, or a new one. Its leases are on the tray afterwards. If it is worth
        while, the next turn is sent at once. Raises what psycopg raises."""
        # The control thread may give jobs back, or settle jobs that can run again at once. An answer to a turn that was
        # sent before doesn't show those jobs.
        certain, reliefs = not self._tray.relieving and self._wire.sent is None, self._tray.reliefs
        again = self._turn(ahead=True)
        if self._tray.leased:
            return Next.WORK
        if again or self._tray.unsettled or self._tray.doubtful:
            return Next.AGAIN
        if not self._selection.until_empty:
            return Next.REST
        certain = certain and not self._tray.relieving and self._tray.reliefs == reliefs
        return Next.END if certain else Next.AGAIN

    def finish(self) -> None:
        """Read the answer to the turn that was sent ahead, if there is one. Until then nothing else can be asked."""
        if self._wire.sent is not None:
            self._turn(ahead=False)

    def put_down(self, *, at_last: bool = False) -> None:
        """Give back what has not started, and settle what is finished. With `at_last`, also what was put off."""
        self.finish()
        self._tray.give_back(self._tray.take_leased())
        self._settler.doubt(self._tray.take_finished())
        self._settler.resolve(self._queue, at_last=at_last)

    def report(self, finished: Finished) -> None:
        """Count and log a job that its handler has settled."""
        self._settler.report([finished])

    def database_went_away(self) -> bool:
        """A handler's connection broke. Did the database go away, or was it only that connection?"""
        try:
            self.finish()
            self._queue.value("channel_v1")
        except DatabaseError as error:
            if not lost(error):
                return False  # if the refusal stays, the next turn shows it; this job's outcome isn't on the tray yet
            self.database_is_back()
            return True
        return False

    def give_up(self) -> None:
        """Nobody will answer the turn that was sent. Its settles are in doubt, and its leases must be given back."""
        turn = self._wire.forget()
        self._settler.doubt(self._tray.take_sent())
        if turn is not None:
            self._upkeep.lost_answer(turn.token)
        self._tray.ahead = None

    def database_is_back(self) -> None:
        """The database was away, so what is known of it may be false now."""
        self._upkeep.database_is_back()
        self._selection.anew()

    def _turn(self, *, ahead: bool) -> bool:
        """Do one turn. True if there may be more to lease at once, though this turn leased nothing."""
        asked_at = time.monotonic()
        if self._wire.sent is None:
            self._send()
        self._tray.write_out()  # while the database still works
        try:
            answer = self._wire.receive()
        except BaseException:
            self.give_up()
            raise
        self.answered += 1
        sent = self._tray.take_sent()
        self._tray.ahead = None
        self._tray.leased.extend(answer.leases)
        again = self._selection.learn(answer)
        for kind, job, why in answer.refused:
            self._settler.refused(kind, job, "to lease it", why)
        settled, late = told_apart(sent, answer.lost)
        try:
            self._settler.record_lost(self._queue, late)
            if ahead:
                self._settler.resolve(self._queue)
                self._upkeep.do_what_is_due(idle=not self._tray.leased)
                if self._worth_sending_ahead(answer):
                    self._send()
        finally:
            self._settler.report(settled, late)
            self._metrics.leased(answer.leases, answer.received_at - asked_at)
        return again

    def _send(self) -> None:
        """Send a turn: settle what is finished, lease what is next."""
        if self._selection.caution.apart:
            self._settler.doubt(self._tray.take_finished())  # so beats name them while they wait
            self._settler.resolve(self._queue)
        turn = self._selection.turn(self._tray.take_settles())
        self._tray.ahead = ahead = Ahead(turn.token, turn.sent_at, deque([turn.settles.finished]))
        try:
            self._wire.send(turn)
        except BaseException:
            self.give_up()
            raise
        ahead.left = True

    def _worth_sending_ahead(self, answer: Answer) -> bool:
        """Should the next turn be sent before the handlers run? Never once a stop is asked for."""
        leased = tuple(self._tray.leased)  # a copy: the control thread may be giving them back now
        return not self._stop.wanted and self._selection.worth_sending_ahead(answer, leased)
