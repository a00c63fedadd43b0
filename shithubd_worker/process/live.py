"""The configuration of a running worker, which a reload replaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shithubd_worker.host.signals import Stop
from shithubd_worker.settings.config import LIVE, Config
from shithubd_worker.turn.prefetch import Pace


class LiveConfig:
    """`now` is read by the main thread, and replaced by the control thread: whoever needs two values of one moment
    reads it once. `reread` makes the configuration as it is now; None: no reload is asked for."""

    def __init__(self, config: Config, reread: Callable[[], Config] | None, stop: Stop, pace: Pace) -> None:
        self.now = config
        self._reread = reread
        self._stop = stop
        self._pace = pace

    def reload(self) -> None:
        """In the control thread, also while a handler runs. Raises ConfigError, and then nothing has changed."""
        if self._reread is not None:
            new = self._reread()
            self.now = replace(self.now, **{name: getattr(new, name) for name in LIVE})
            self._stop.grace, self._pace.window = new.grace, new.prefetch
