"""The control thread: what must go on while a handler runs.

Here is its loop alone; each thing that it does is a duty, in a room of its own. It has a database connection of its
own; while that is away it keeps the deadlines all the same.
"""

from __future__ import annotations

import logging
import select
import signal
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.errors import EXIT_ERROR
from shithubd_worker.host.dead_man import SIGNAL
from shithubd_worker.host.signals import SelfPipe, end_process
from shithubd_worker.process.shared import Progress
from shithubd_worker.timing import QUICK_TICK_SECONDS, tick
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.tray import Tray

log = logging.getLogger(__name__)


class Duty(Protocol):
    """Something that the control thread has to do, again and again."""

    def tick(self, now: float) -> None:
        """Do what is due of it. What this raises ends the process."""


class Control(threading.Thread):
    """See the module. `start()` it once the worker is registered; `finish()` it when no handler can run any more.
    `duties` have their turn one after the other, at each tick."""

    def __init__(
        self,
        session: ControlSession,
        ears: SelfPipe,
        progress: Progress,
        tray: Tray,
        settler: Settler,
        *,
        shortest_lease: float,
        duties: Sequence[Duty],
    ) -> None:
        super().__init__(name="control", daemon=True)
        self._session = session
        self._ears = ears
        self._progress = progress
        self._tray = tray
        self._settler = settler
        self._tick = tick(shortest_lease)
        self._duties = duties
        self._finished = False

    def finish(self) -> None:
        """End the thread; returns when it is over."""
        self._finished = True
        self._ears.wake()
        self.join(timeout=5)

    def run(self) -> None:
        """Every tick: listen, and do all duties."""
        # A handler may have blocked all signals in its thread: then a stop, or the dead man's, is taken by this one.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, SIGNAL})
        while not self._finished:
            try:
                self._listen()
                for duty in self._duties:
                    duty.tick(time.monotonic())
            except Exception:  # a fault here must end the process, not leave a worker without its control thread
                log.exception("the control thread failed")
                end_process(EXIT_ERROR)

    def _listen(self) -> None:
        """Until the next tick, until somebody calls, or until the database does: that it ends this connection is news.
        The ticks are quicker while there is something that a slow handler would keep."""
        self._progress.watched = self._tray.at_hand or self._settler.waiting
        sources = select.poll()  # select() knows no descriptor above 1023
        sources.register(self._ears, select.POLLIN)
        if self._session.opened:
            sources.register(self._session.connection, select.POLLIN)
        sources.poll((QUICK_TICK_SECONDS if self._progress.watched else self._tick) * 1000)
