"""The control connection is lost: since when, and when the database is looked for again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from shithubd_worker import backoff
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.failures import DatabaseError, in_one_line
from shithubd_worker.process.shared import Progress
from shithubd_worker.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Outage:
    """The next call on the connection opens another: here is only decided when that may be."""

    def __init__(
        self, session: ControlSession, progress: Progress, wake_main: Callable[[], None], metrics: Metrics
    ) -> None:
        self._session = session
        self._progress = progress
        self._wake_main = wake_main
        self._metrics = metrics
        self.lost_at = 0.0  # when the connection was lost the last time, or could not be opened
        self._retry_at = 0.0
        self._tries = 0
        self._refusals = 0  # times in a row that the database was there, and ended what it was asked

    @property
    def lasts(self) -> bool:
        """Was the last thing that was asked not answered?"""
        return self._tries > 0

    def waits(self, now: float) -> bool:
        """Is it too early to look again? Not if the main thread has found the database since."""
        return now < self._retry_at and self._progress.found_at <= self.lost_at

    def goes_on(self, error: DatabaseError) -> None:
        """The connection is lost, or none can be had."""
        if not self._tries:
            log.warning("control connection lost: %s", self._session.last_word or in_one_line(error))
        self._refusals = self._refusals + 1 if self._session.opened else 0
        self._session.close()
        self._tries += 1
        self._progress.away = True
        self.lost_at = time.monotonic()
        if self._session.login_refused is not None:
            self._wake_main()  # nobody beats any more: it must end
        self._retry_at = self.lost_at + backoff.reconnect(self._refusals, random.random())  # noqa: S311

    def is_over(self) -> None:
        """The database has answered all that it was asked."""
        if self._tries:
            self._wake_main()  # it may wait to look for itself
            self._metrics.reconnected("control")
        self._tries = self._refusals = 0
        self._progress.away = False
