"""Relief from a slow handler: settle what was finished before it, and give back what was leased after it.

Also settles again what could not be settled before, with or without a slow handler.
"""

from __future__ import annotations

import random
from uuid import UUID

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.model import Finished
from shithubd_worker.timing import (
    AHEAD_ANSWERED_SECONDS,
    GIVE_BACK_AFTER_SECONDS,
    SETTLE_AFTER_SECONDS,
    STRAYS_AGAIN_SECONDS,
)
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.tray import Ahead, Tray


class Relief:
    """For the control thread, on its connection.

    It gives back only leases that are too old to start without another look at the holds. start_v1 gives a new token to
    each lease that may start, so no lease is both started and given back.
    """

    def __init__(self, session: ControlSession, worker: UUID, tray: Tray, settler: Settler) -> None:
        self._session = session
        self._worker = worker
        self._tray = tray
        self._settler = settler
        self._strays_at = 0.0

    def tick(self, now: float, attempt: Attempt | None) -> None:
        """Settle and give back what is due, if the running handler keeps the main thread from it, or an answer that
        does not come."""
        slow = (attempt is not None and now - attempt.started_at >= SETTLE_AFTER_SECONDS) or self._tray.overdue(now)
        if not (slow or self._settler.waiting):
            return
        # `reliefs` is counted and `relieving` set before anything is taken. `relieving` is unset when the database has
        # it all. A reader that finds the same `reliefs` before and after a turn, and `relieving` unset both times, has
        # missed nothing that was here.
        self._tray.reliefs += 1
        self._tray.relieving = True
        try:
            if slow:
                self._empty_tray(now, unread=attempt is not None)
            self._settler.resolve(self._session)
        finally:
            self._tray.relieving = False

    def put_down(self, last: Finished | None) -> None:
        """The process ends: settle all that is finished, with `last`, and give back what has not started."""
        if last is not None:
            self._tray.finished.append(last)
        self._give_back()
        self._settle_finished()
        if (ahead := self._tray.ahead) is not None:
            self._doubt_settles(ahead)
        self._settler.resolve(self._session, at_last=True)

    def _settle_finished(self) -> None:
        if finished := self._tray.take_finished():
            self._settler.settle(self._session, finished)

    def _give_back(self) -> None:
        leases = self._tray.take_leased()
        self._tray.given_back += len(leases)
        self._tray.give_back(leases)

    def _doubt_settles(self, ahead: Ahead) -> None:
        """Nobody reads the answer to the turn that was sent ahead. If the database refused it, the jobs that it settles
        are still leased. So this thread settles them. One of them tells for all: a turn is one transaction."""
        sent = ahead.unanswered
        # Any of them: somebody may have taken the lease of a single one.
        if sent and self._session.fate(random.choice(sent).lease) == "leased":  # noqa: S311
            self._settler.doubt(ahead.take_settles())

    def _empty_tray(self, now: float, *, unread: bool) -> None:
        tray = self._tray
        leased_at = tray.leased_at()
        if leased_at is not None and now - leased_at >= GIVE_BACK_AFTER_SECONDS:
            self._give_back()
        self._settle_finished()
        ahead = tray.ahead
        if ahead is None or ahead.given_back:
            return
        if now - ahead.sent_at >= GIVE_BACK_AFTER_SECONDS and now >= self._strays_at:
            # If nothing was found, the lease may not be committed yet. So look again, for a while.
            self._strays_at = now + STRAYS_AGAIN_SECONDS
            found = self._session.release_strays(self._worker, ahead.token)
            tray.given_back += len(found)
            if unread and not found and ahead.left:
                self._doubt_settles(ahead)
            ahead.given_back = bool(found) or now - ahead.sent_at >= AHEAD_ANSWERED_SECONDS
