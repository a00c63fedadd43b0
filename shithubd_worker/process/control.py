"""The control thread: what must go on while a handler runs.

This file has only its loop. Each thing that the thread does is a duty, in a file of its own. The thread has a database
connection of its own, and keeps the deadlines even while that is away.
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
    """Something that the control thread does again and again."""

    def tick(self, now: float) -> None:
        """Do what is due. An exception ends the process."""


class Control(threading.Thread):
    """The control thread. `start()` it once the worker is registered; `finish()` it when no handler can run any more.
    At each tick it runs all `duties`, one after the other."""

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
        """End the thread. Returns when it has ended."""
        self._finished = True
        self._ears.wake()
        self.join(timeout=5)

    def run(self) -> None:
        """At each tick: listen, then run all duties."""
        # A handler may have blocked all signals in its thread. Then this thread takes a stop, and the dead man's
        # signal.
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
        """Wait until the next tick, until another thread calls, or until the database says something: it may have ended
        this connection. The ticks are quicker while there are jobs that a slow handler would hold back."""
        self._progress.watched = self._tray.at_hand or self._settler.waiting
        sources = select.poll()  # select() can't take descriptors above 1023
        sources.register(self._ears, select.POLLIN)
        if self._session.opened:
            sources.register(self._session.connection, select.POLLIN)
        sources.poll((QUICK_TICK_SECONDS if self._progress.watched else self._tick) * 1000)
