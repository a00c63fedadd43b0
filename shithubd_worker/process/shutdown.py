"""The end: give back what has not started, and settle what is finished."""

from __future__ import annotations

import logging
import time

from shithubd_worker.database.failures import DatabaseError, lost
from shithubd_worker.errors import Unsettled
from shithubd_worker.process.patience import Patience
from shithubd_worker.process.reconnect import Reconnect
from shithubd_worker.process.shared import Progress
from shithubd_worker.process.sleep import Sleep
from shithubd_worker.timing import EXIT_FUNCTIONS_SECONDS, LOCKED_AGAIN_SECONDS
from shithubd_worker.turn.exchange import Exchange
from shithubd_worker.turn.settling import Settler

log = logging.getLogger(__name__)


class Shutdown:
    """For the main thread."""

    def __init__(
        self,
        exchange: Exchange,
        settler: Settler,
        reconnect: Reconnect,
        patience: Patience,
        progress: Progress,
        sleep: Sleep,
    ) -> None:
        self._exchange = exchange
        self._settler = settler
        self._reconnect = reconnect
        self._patience = patience
        self._progress = progress
        self._sleep = sleep
        self._waits = False  # has it logged that it waits for locks?

    @property
    def leave_by(self) -> float:
        """Until when exit functions may run."""
        return self._progress.stop.kill_at + EXIT_FUNCTIONS_SECONDS

    def put_down(self) -> None:
        """Give back what has not started and settle what is finished, even through reconnects. Raises Unsettled if
        something is left at the end of the grace, or if waiting can't settle it."""
        while True:
            try:
                self._exchange.put_down(at_last=True)
                if not self.wait_for_locks():
                    return
            except DatabaseError as error:
                if lost(error) and self._reconnect(error):
                    continue
                if lost(error) or time.monotonic() >= self._progress.stop.release_at:
                    ill = "is away" if lost(error) else "refuses"
                    raise self._unsettled(f"the database {ill}") from error
                self._patience.refused(error)

    def wait_for_locks(self) -> bool:
        """Wait a moment if something finished can't be settled yet; the waits end with the grace. False if everything
        is settled."""
        self._progress.ticked_at = time.monotonic()
        if not self._settler.waiting:
            return False
        if not self._settler.may_pass:
            raise self._unsettled("the database refuses to write the outcome")
        if time.monotonic() >= self._progress.stop.release_at:
            raise self._unsettled("somebody has locked their rows")
        if not self._waits:
            self._waits = True
            log.info("%s, and somebody has locked their rows: waiting", self._settler.left)
        self._sleep.wait(LOCKED_AGAIN_SECONDS)
        return True

    def _unsettled(self, why: str) -> Unsettled:
        return Unsettled(f"{self._settler.left}, but {why}: they stay leased until their timeout")
