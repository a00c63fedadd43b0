"""The main thread's sleep. It ends when something becomes runnable, when a signal comes, or when the time is over."""

from __future__ import annotations

import select
from typing import Any

from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.host.signals import SelfPipe
from shithubd_worker.process.live import LiveConfig
from shithubd_worker.telemetry import logs
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.turn.selection import Selection


class Sleep:
    """The sleep. The signal handlers and the control thread ring `bell`, which ends it."""

    def __init__(
        self, queue: QueueSession, selection: Selection, bell: SelfPipe, config: LiveConfig, metrics: Metrics
    ) -> None:
        self._queue = queue
        self._selection = selection
        self._bell = bell
        self._config = config
        self._metrics = metrics

    def wait(self, seconds: float) -> None:
        """Wait for something that sends no wake-up. A stop is heard at once."""
        self._sleep(seconds, listen=False)

    def rest(self) -> None:
        """Sleep until something becomes runnable, at most for the poll interval. If something already has, return at
        once."""
        wakeups = self._selection.wakeups
        if wakeups.called:
            return
        logs.tell()
        seconds, listen = self._selection.rest(self._config.now.poll_interval)
        self._sleep(seconds, listen=listen)
        self._queue.heed()
        wakeups.rested()

    def _sleep(self, seconds: float, *, listen: bool) -> None:
        sources: list[Any] = [self._bell]
        if listen and self._queue.opened:
            sources.append(self._queue.connection)
        if not select.select(sources, [], [], seconds)[0]:
            self._metrics.woken("poll")
        self._bell.drain()
