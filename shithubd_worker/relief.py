"""A handler turned slow: settle what was finished before it, and give back what was leased after it."""

from __future__ import annotations

from uuid import UUID

from shithubd_worker.model import NOT_STARTED, Finished
from shithubd_worker.settling import Settler
from shithubd_worker.store import Beat
from shithubd_worker.tray import Tray

# Above the time within which a leased job may start without another look (attempt.START_AGAIN_WITHIN_SECONDS), below
# the shortest lease's end.
GIVE_BACK_AFTER_SECONDS = 0.6
# A lease that was sent ahead and isn't committed when it is to be given back: looked for again so often, and so long.
LOOK_AGAIN_SECONDS = 1.0
ANSWERED_WITHIN_SECONDS = 30.0


class Relief:
    """For the control thread, on its connection.

    Only leases that are too old to start without another look at the holds are given back: start_v1 gives those that
    may start another token, so none is both started and given back.
    """

    def __init__(self, beat: Beat, worker: UUID, tray: Tray, settler: Settler) -> None:
        self._beat = beat
        self._worker = worker
        self._tray = tray
        self._settler = settler
        self._strays_at = 0.0

    def empty_tray(self, now: float) -> None:
        """Settle and give back what is due."""
        self._tray.relieving = True
        try:
            self._give_back(now)
        finally:
            self._tray.relieving = False

    def settle_finished(self) -> None:
        """What the main thread has no turn to settle."""
        if finished := self._tray.take_finished():
            self._settler.settle(self._beat, finished)

    def _give_back(self, now: float) -> None:
        tray = self._tray
        leased_at = tray.leased_at()
        if leased_at is not None and now - leased_at >= GIVE_BACK_AFTER_SECONDS:
            given_back = [Finished(lease, NOT_STARTED, "none", 0.0) for lease in tray.take_leased()]
            tray.given_back += len(given_back)
            tray.finished.extend(given_back)
        self.settle_finished()
        ahead = tray.ahead
        if ahead is None or ahead is tray.ahead_given_back:
            return
        if now - ahead[1] >= GIVE_BACK_AFTER_SECONDS and now >= self._strays_at:
            # Nothing found: it may not have been committed yet, so look again, for a while.
            self._strays_at = now + LOOK_AGAIN_SECONDS
            found = self._beat.release_strays(self._worker, ahead[0])
            tray.given_back += len(found)
            if found or now - ahead[1] >= ANSWERED_WITHIN_SECONDS:
                tray.ahead_given_back = ahead
