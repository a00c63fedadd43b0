"""The state of the control connection: since when it is lost, and when to look for the database again."""

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
    """The next call on the session opens a new connection. This class only decides when that may happen."""

    def __init__(
        self, session: ControlSession, progress: Progress, wake_main: Callable[[], None], metrics: Metrics
    ) -> None:
        self._session = session
        self._progress = progress
        self._wake_main = wake_main
        self._metrics = metrics
        self.lost_at = 0.0  # when the connection was last lost, or could not be opened
        self._retry_at = 0.0
        self._tries = 0
        self._refusals = 0  # times in a row that the database answered, and then ended the connection

    @property
    def lasts(self) -> bool:
        """Did the last question get no answer?"""
        return self._tries > 0

    def waits(self, now: float) -> bool:
        """Is it too early to look again? It is not if the main thread has found the database since."""
        return now < self._retry_at and self._progress.found_at <= self.lost_at

    def goes_on(self, error: DatabaseError) -> None:
        """The connection is lost, or can't be opened."""
        if not self._tries:
            log.warning("control connection lost: %s", self._session.last_word or in_one_line(error))
        self._refusals = self._refusals + 1 if self._session.opened else 0
        self._session.close()
        self._tries += 1
        self._progress.away = True
        self.lost_at = time.monotonic()
        if self._session.login_refused is not None:
            self._wake_main()  # nobody beats any more, so the worker must end
        self._retry_at = self.lost_at + backoff.reconnect(self._refusals, random.random())  # noqa: S311

    def is_over(self) -> None:
        """The database has answered all questions."""
        if self._tries:
            self._wake_main()  # it may be waiting before its own next try
            self._metrics.reconnected("control")
        self._tries = self._refusals = 0
        self._progress.away = False
