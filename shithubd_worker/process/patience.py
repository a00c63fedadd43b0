"""What the loop does when the database or the machine refuses: one job at a time, and longer and longer pauses."""

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
    """For the main thread. Counts refusals in a row, and pauses."""

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
        """Something that the loop asked was not done. Raises what `refused` and Reconnect raise."""
        self._metrics.claim_failed()
        if lost(error):
            self._reconnect(error)
        else:
            self.refused(error)

    def refused(self, error: DatabaseError) -> None:
        """The database is there, but refuses. After the first refusal the next turn is careful. After further ones the
        loop also waits.

        Raises ShithubdError if only an operator can put it right, because the schema or the role has changed.
        """
        if meaning(error) is Meaning.OURS:
            self._queue.check()
        self._caution.raise_it(locked=error.sqlstate == LOCKED)
        self._refusals += 1
        if self._refusals > 1:
            # A worker that waited for a lock in vain has already paused, inside the server.
            most = LOCKED_PAUSE_SECONDS if error.sqlstate == LOCKED else math.inf
            self._pause(self._refusals - 1, self._queue.in_the_way(error), most=most)

    def served(self) -> None:
        """The database did what it was asked."""
        if self._refusals:
            self._refusals = 0
            self._progress.trouble = ""

    def short(self, reason: str) -> None:
        """A handler was refused connections, memory or disk. Pause, so that the machine can recover."""
        self._caution.raise_it()
        self._shortages += 1
        self._pause(self._shortages, reason)
        self._progress.trouble = ""

    def ran(self) -> None:
        """A handler ran, with any outcome, and was refused none of these."""
        self._shortages = 0

    def _pause(self, times: int, reason: str, *, most: float = math.inf) -> None:
        """Lease nothing for a moment, longer each time in a row, at most 5.6 s. A stop is heard at once, and the pause
        ends with the stop's grace. `status` and systemd show the reason until the trouble is over."""
        self._progress.ticked_at = time.monotonic()  # a worker that waits for a disk isn't stalled
        seconds = backoff.reconnect(times, random.random())  # noqa: S311
        seconds = max(0.0, min(seconds, most, self._progress.stop.release_at - time.monotonic()))
        log.log(logging.WARNING if times == 1 else logging.INFO, "pausing for %.1f s: %s", seconds, reason)
        self._progress.trouble = reason
        self._sleep.wait(seconds)
