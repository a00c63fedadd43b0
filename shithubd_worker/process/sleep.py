"""The main thread's sleep: until something becomes runnable, a signal comes, or the time is over."""

from __future__ import annotations

import select
from typing import Any

from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.host.signals import SelfPipe
from shithubd_worker.telemetry import logs
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.turn.selection import Selection


class Sleep:
    """See the module. `bell` is rung by the signals' handlers and by the control thread."""

    def __init__(self, queue: QueueSession, selection: Selection, bell: SelfPipe, metrics: Metrics) -> None:
        self._queue = queue
        self._selection = selection
        self._bell = bell
        self._metrics = metrics

    def wait(self, seconds: float) -> None:
        """For something that nobody tells us of. A stop is heard at once."""
        self._sleep(seconds, listen=False)

    def rest(self, poll_interval: float) -> None:
        """Until something became runnable, if that isn't known already; at most for the poll interval."""
        wakeups = self._selection.wakeups
        if wakeups.called:
            return
        logs.flush()
        seconds, listen = self._selection.rest(poll_interval)
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
