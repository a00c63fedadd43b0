"""The database went away: look for it until it answers again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from shithubd_worker import backoff
from shithubd_worker.database.failures import DatabaseError, explained
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.errors import DatabaseUnavailable
from shithubd_worker.process.shared import Progress
from shithubd_worker.process.sleep import Sleep
from shithubd_worker.telemetry import logs
from shithubd_worker.turn.exchange import Exchange

log = logging.getLogger(__name__)


class Reconnect:
    """For the main thread. `drop` closes its connections, `connect` opens the queue's connection anew. `found` is
    called when that worked."""

    def __init__(
        self,
        queue: QueueSession,
        exchange: Exchange,
        progress: Progress,
        sleep: Sleep,
        drop: Callable[[], None],
        connect: Callable[[], None],
        found: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._exchange = exchange
        self._progress = progress
        self._sleep = sleep
        self._drop = drop
        self._connect = connect
        self._found = found
        self._failures = 0  # times in a row that the database was lost before it answered a turn
        self._answered = 0  # turns that were answered until it was lost the last time

    def __call__(self, error: DatabaseError) -> bool:
        """Look until the database answers again, then return True. False if the worker must go first. If a stop was
        asked for and nothing is left to settle, it must go at once, else at the end of the grace. Raises DatabaseError
        if waiting can't help."""
        self._exchange.give_up()
        if not self._look_for_it(self._queue.last_word or explained(error)):
            return False
        self._exchange.database_is_back()
        return True

    def _look_for_it(self, why: object) -> bool:
        log.warning("the database is away: %s", why, extra={"event": logs.DATABASE_AWAY})
        self._progress.database_up = False
        lost_at, tries, refusals = time.monotonic(), 0, self._refusals()
        while tries == 0 or not self._must_go():
            tries += 1
            self._drop()
            self._progress.ticked_at = time.monotonic()
            self._sleep.wait(backoff.reconnect(refusals, random.random()))  # noqa: S311
            refusals = 0
            try:
                self._connect()
            except DatabaseError as refused:
                if not isinstance(explained(refused), DatabaseUnavailable):
                    raise
                continue
            log.info("the database is back after %.1f s and %d tries", time.monotonic() - lost_at, tries)
            self._progress.database_up = True
            self._progress.found_at = time.monotonic()
            self._found()
            return True
        return False

    def _refusals(self) -> int:
        """How often in a row the database was found, and lost again before it answered a turn."""
        if self._exchange.answered != self._answered:
            self._answered, self._failures = self._exchange.answered, 0
        self._failures += 1
        return self._failures - 1

    def _must_go(self) -> bool:
        stop = self._progress.stop
        return stop.wanted and (not self._exchange.unsettled or time.monotonic() >= stop.release_at)
