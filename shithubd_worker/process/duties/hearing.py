"""Hears the signals of a stop and of a reload, even while the main thread is inside C."""

from __future__ import annotations

import signal
from collections.abc import Callable

from shithubd_worker.host.signals import SelfPipe, Stop, ring_main


class Hearing:
    """`ears` receive each signal's number. `reload` reads the configuration again. `beat_now` makes the next beat come
    at once, so that it says that this worker stops."""

    def __init__(
        self,
        ears: SelfPipe,
        stop: Stop,
        *,
        reload: Callable[[], None],
        wake_main: Callable[[], None],
        beat_now: Callable[[], None],
    ) -> None:
        self._ears = ears
        self._stop = stop
        self._reload = reload
        self._wake_main = wake_main
        self._beat_now = beat_now
        self._stop_told = False

    def tick(self, _now: float) -> None:
        """Hear the signals since the last tick. The main thread may have heard a stop first."""
        heard = self._ears.drain()
        for number in heard:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop.hear(main=False)
        if signal.SIGHUP in heard:
            self._reload()
        if self._stop.wanted and not self._stop_told:
            self._stop_told = True
            self._wake_main()
            ring_main()
            self._beat_now()
