"""The beat: this worker's sign of life, with what it does and which holds it obeys."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.database.clock import Clock
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.model import Hold, Registration
from shithubd_worker.process.duties.trust import Trust
from shithubd_worker.process.shared import Progress
from shithubd_worker.telemetry import logs
from shithubd_worker.timing import BEAT_SECONDS, SHOWN_AFTER_SECONDS, TOLD_AGAIN_SECONDS
from shithubd_worker.turn.settling import Settler

log = logging.getLogger(__name__)


class Heartbeat:
    """A beat is due after `every` seconds, and when something changes that `status` must show. A change from one quick
    job to the next does not count, so the number of jobs doesn't raise the number of beats. If somebody has set the
    database's clock, a beat is due at once: by that clock the last one may look old."""

    def __init__(
        self,
        session: ControlSession,
        worker: Registration,
        progress: Progress,
        settler: Settler,
        trust: Trust,
        clock: Clock,
        every: float = BEAT_SECONDS,
    ) -> None:
        self._session = session
        self._worker = worker
        self._progress = progress
        self._settler = settler
        self._trust = trust
        self._clock = clock
        self._every = every
        self._beat_at = 0.0
        self._shown: object = None

    def first(self) -> list[Hold]:
        """The first beat, right after the worker registered. The main thread sends it, before the control thread runs.
        Returns the holds that cover this worker."""
        sent_at = time.monotonic()
        holds = self._progress.holds = self._session.beat(self._worker.identity.id, "idle", None, None, None) or []
        self._trust.beat(sent_at, None)
        return holds

    def hurry(self) -> None:
        """Beat at the next tick."""
        self._beat_at = 0.0

    def tick(self, now: float, attempt: Attempt | None) -> None:
        """Beat, if it is due."""
        running = attempt if attempt and not attempt.over and now - attempt.started_at >= SHOWN_AFTER_SECONDS else None
        state = self._progress.word(answered=True)
        token, unsettled = running.lease.token if running else None, self._settler.unsettled(now)
        shown = ("at work" if state in ("idle", "running") else state, token, unsettled)
        every = self._every if shown == self._shown else TOLD_AGAIN_SECONDS
        if now - self._beat_at < every and self._beat_at >= self._clock.stepped_at:
            return
        sent_at = time.monotonic()
        holds = self._session.beat(
            self._worker.identity.id,
            state,
            running.lease.id if running else None,
            running.kind.name if running else None,
            now - running.started_at if running else None,
            unsettled,
            otherwise=self._progress.holds,
        )
        if gone := holds is None:
            log.warning("this worker's row was gone: registering again")
            sent_at = time.monotonic()
            self._session.register(self._worker)
            holds = []
        self._trust.beat(sent_at, attempt, anew=gone)
        if holds != self._progress.holds:
            _tell(holds)
        self._progress.holds = holds
        self._beat_at, self._shown = max(now, self._clock.stepped_at), shown


def _tell(holds: Sequence[Hold]) -> None:
    for hold in holds:
        log.info("held: %s", hold, extra={"event": logs.HELD})
    if not holds:
        log.info("no longer held")
