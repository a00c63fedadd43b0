"""The configuration of a running worker. A reload replaces it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shithubd_worker.host.signals import Stop
from shithubd_worker.settings.config import LIVE, Config
from shithubd_worker.turn.prefetch import Pace


class LiveConfig:
    """The control thread replaces `now`, and the main thread reads it. Code that needs two values of one moment reads
    `now` once. `reread` makes the configuration anew; it is None where no reload is possible."""

    def __init__(self, config: Config, reread: Callable[[], Config] | None, stop: Stop, pace: Pace) -> None:
        self.now = config
        self._reread = reread
        self._stop = stop
        self._pace = pace

    def reload(self) -> None:
        """Reload. The control thread calls it, also while a handler runs. Raises ConfigError, and then nothing has
        changed."""
        if self._reread is not None:
            new = self._reread()
            self.now = replace(self.now, **{name: getattr(new, name) for name in LIVE})
            self._stop.grace, self._pace.window = new.grace, new.prefetch
