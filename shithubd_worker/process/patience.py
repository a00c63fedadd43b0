"""What the loop does when the database, or the machine, refuses: one job at a time, and a pause that grows."""

from __future__ import annotations

import logging
import math
import random
import time

from shithubd_worker import backoff
from shithubd_worker.database.failures import DatabaseError, lost, meaning
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.database.sqlstates import LOCKED, Meaning
from shithubd_worker.process.reconnect import Reconnect
from shithubd_worker.process.shared import Progress
from shithubd_worker.process.sleep import Sleep
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.timing import LOCKED_PAUSE_SECONDS
from shithubd_worker.turn.caution import Caution

log = logging.getLogger(__name__)


class Patience:
    """Counts what was refused in a row, and pauses. For the main thread."""

    def __init__(
        self,
        queue: QueueSession,
        caution: Caution,
        progress: Progress,
        sleep: Sleep,
        reconnect: Reconnect,
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._caution = caution
        self._progress = progress
        self._sleep = sleep
        self._reconnect = reconnect
        self._metrics = metrics
        self._refusals = 0  # turns that the database refused
        self._shortages = 0  # handlers that were refused connections, memory or disk

    def failed(self, error: DatabaseError) -> None:
        """Something that the loop asked was not done. Raises as `refused` and Reconnect."""
        self._metrics.claim_failed()
        if lost(error):
            self._reconnect(error)
        else:
            self.refused(error)

    def refused(self, error: DatabaseError) -> None:
        """The database is there and refuses. The first time be careful at once; wait if that was refused too.

        Raises ShithubdError if only an operator can mend it: the schema or the role isn't what it was.
        """
        if meaning(error) is Meaning.OURS:
            self._queue.check()
        self._caution.raise_it()
        self._refusals += 1
        if self._refusals > 1:
            # Who waited for a lock in vain has paused already, in the server.
            most = LOCKED_PAUSE_SECONDS if error.sqlstate == LOCKED else math.inf
            self._pause(self._refusals - 1, self._queue.in_the_way(error), most=most)

    def served(self) -> None:
        """The database did as it was asked."""
        if self._refusals:
            self._refusals = 0
            self._progress.trouble = ""

    def short(self, reason: str) -> None:
        """A handler was refused connections, memory or disk: leave the machine alone for a moment."""
        self._caution.raise_it()
        self._shortages += 1
        self._pause(self._shortages, reason)
        self._progress.trouble = ""

    def ran(self) -> None:
        """A handler ran for better or worse, and was refused nothing."""
        self._shortages = 0

    def _pause(self, times: int, reason: str, *, most: float = math.inf) -> None:
        """Lease nothing for a moment, longer each time in a row, 5.6 s at most. A stop is heard at once, and the pause
        ends with its grace. The reason is told until the trouble is over."""
        self._progress.ticked_at = time.monotonic()  # who waits for a disk isn't stalled
        seconds = backoff.reconnect(times, random.random())  # noqa: S311
        seconds = max(0.0, min(seconds, most, self._progress.stop.release_at - time.monotonic()))
        log.log(logging.WARNING if times == 1 else logging.INFO, "pausing for %.1f s: %s", seconds, reason)
        self._progress.trouble = reason
        self._sleep.wait(seconds)
