"""What the control thread asks the database: all questions that are due, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.failures import DatabaseError, lost
from shithubd_worker.process.duties.heartbeat import Heartbeat
from shithubd_worker.process.duties.outage import Outage
from shithubd_worker.process.duties.renewal import Renewal
from shithubd_worker.process.shared import Progress
from shithubd_worker.timing import ASK_AGAIN_SECONDS

log = logging.getLogger(__name__)


class Question(Protocol):
    """A question that the control thread asks the database again and again."""

    def tick(self, now: float, attempt: Attempt | None) -> None:
        """Ask it, if it is due. Raises what psycopg raises. `attempt` is what runs now."""


class Asking:
    """Asks `questions` in their order; `renewal` and `heartbeat` are two of them. The clock and the lease come first,
    because the other questions may wait for a lock."""

    def __init__(
        self,
        session: ControlSession,
        progress: Progress,
        outage: Outage,
        renewal: Renewal,
        heartbeat: Heartbeat,
        questions: Sequence[Question],
    ) -> None:
        self._session = session
        self._progress = progress
        self._outage = outage
        self._questions = questions
        self._renewal = renewal
        self._heartbeat = heartbeat
        self._again_at: dict[Question, float] = {}  # of refused questions: when to ask again

    def tick(self, now: float) -> None:
        """Ask what is due, unless the database is away and it is too early to look for it again.

        Before anything is asked, the attempt is told that the thread waits for an answer. If the lease ends meanwhile,
        that is not the handler's fault.
        """
        attempt = self._progress.attempt
        if attempt is not None and self._outage.lasts:
            attempt.unreachable = True
        if self._outage.waits(now):
            return
        if attempt is not None and attempt.asked_at is None:
            attempt.asked_at = now
        try:
            self._session.heed()
            self._ask(now, attempt)
        except DatabaseError as error:
            self._outage.goes_on(error)
            # Ask everything at the next look: an answer shows that the database is back.
            self._again_at.clear()
            self._heartbeat.hurry()
        else:
            self._outage.is_over()
            if attempt is not None and not {self._renewal, self._heartbeat} & self._again_at.keys():
                attempt.asked_at, attempt.unreachable = None, False

    def _ask(self, now: float, attempt: Attempt | None) -> None:
        """A refused question must not keep the others from their turn. It is asked again a little later."""
        for question in self._questions:
            if now < self._again_at.get(question, 0.0):
                continue
            self._again_at.pop(question, None)
            try:
                question.tick(now, attempt)
            except DatabaseError as error:
                if lost(error) or not self._session.opened:
                    raise
                self._again_at[question] = now + ASK_AGAIN_SECONDS
                log.warning("the database refuses the control thread: %s", self._session.in_the_way(error))
