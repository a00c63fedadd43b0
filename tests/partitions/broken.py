"""The same handlers on a worker that breaks its promise: it tells the database when it gives up, and goes on."""

from __future__ import annotations

from typing import Any

from partitions import handlers
from shithubd_worker.process.duties.trust import Trust
from shithubd_worker.registry import Kind

registry = handlers.registry
_init = Trust.__init__


def _without_silence(self: Trust, progress: Any, dead_man: Any, silence: float) -> None:
    _init(self, progress, dead_man, 0.0)


Trust.__init__ = _without_silence  # type: ignore[method-assign]
Kind.within = lambda self, silence: self  # type: ignore[method-assign]
