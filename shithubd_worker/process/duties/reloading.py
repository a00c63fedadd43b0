"""A reload: a SIGHUP says that the configuration has changed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from shithubd_worker.errors import ConfigError
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.process.duties.supervision import Supervision

log = logging.getLogger(__name__)


class Reloading:
    """`take_over` reads the configuration again. If it raises, nothing has changed."""

    def __init__(
        self,
        take_over: Callable[[], None],
        systemd: Systemd,
        supervision: Supervision,
        wake_main: Callable[[], None],
    ) -> None:
        self._take_over = take_over
        self._systemd = systemd
        self._supervision = supervision
        self._wake_main = wake_main

    def __call__(self) -> None:
        """Read it, and tell systemd and the log the result."""
        self._systemd.reloading()
        refused = ""
        try:
            self._take_over()
            self._wake_main()  # it may be sleeping for the old poll interval
        except ConfigError as error:
            refused = f"; not reloaded: {error.args[0]}"
            log.error("not reloaded, the worker keeps its settings: %s", "; ".join(error.args))  # noqa: TRY400 (its text is enough)
        except Exception:  # a fault in a file must not end the running job
            refused = "; not reloaded: see the journal"
            log.exception("not reloaded, the worker keeps its settings")
        self._supervision.refused = refused
        self._systemd.ready(self._supervision.line(time.monotonic()))
