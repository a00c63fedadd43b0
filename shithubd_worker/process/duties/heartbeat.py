"""The beat: this worker's sign of life, with what it does and which holds it obeys."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.model import Hold, Identity
from shithubd_worker.process.shared import Progress
from shithubd_worker.telemetry import logs
from shithubd_worker.timing import BEAT_SECONDS, SHOWN_AFTER_SECONDS, TOLD_AGAIN_SECONDS
from shithubd_worker.turn.settling import Settler

log = logging.getLogger(__name__)


class Heartbeat:
    """A beat is due every few seconds, and when something changes that `status` must show. A change from one quick job
    to the next does not count, so the number of jobs doesn't raise the number of beats."""

    def __init__(
        self,
        session: ControlSession,
        identity: Identity,
        kinds: Sequence[str],
        progress: Progress,
        settler: Settler,
    ) -> None:
        self._session = session
        self._identity = identity
        self._kinds = kinds
        self._progress = progress
        self._settler = settler
        self._beat_at = 0.0
        self._shown: object = None

    def first(self) -> list[Hold]:
        """The first beat, right after the worker registered. The main thread sends it, before the control thread runs.
        Returns the holds that cover this worker."""
        holds = self._progress.holds = self._session.beat(self._identity.id, "idle", None, None, None) or []
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
        if now - self._beat_at < (BEAT_SECONDS if shown == self._shown else TOLD_AGAIN_SECONDS):
            return
        holds = self._session.beat(
            self._identity.id,
            state,
            running.lease.id if running else None,
            running.kind.name if running else None,
            now - running.started_at if running else None,
            unsettled,
            otherwise=self._progress.holds,
        )
        if holds is None:
            log.warning("this worker's row was gone: registering again")
            self._session.register(self._identity, self._kinds)
            holds = []
        if holds != self._progress.holds:
            _tell(holds)
        self._progress.holds = holds
        self._beat_at, self._shown = now, shown


def _tell(holds: Sequence[Hold]) -> None:
    for hold in holds:
        log.info("held: %s", hold, extra={"event": logs.HELD})
    if not holds:
        log.info("no longer held")
