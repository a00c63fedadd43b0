"""The parts of a worker's main thread, built without a process, for tests of each single part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import uuid4

from shithubd_worker.database.clock import Clock
from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.host.identity import identify
from shithubd_worker.host.signals import SelfPipe, Stop
from shithubd_worker.model import Registration
from shithubd_worker.process.live import LiveConfig
from shithubd_worker.process.patience import Patience
from shithubd_worker.process.reconnect import Reconnect
from shithubd_worker.process.shared import Progress
from shithubd_worker.process.shutdown import Shutdown
from shithubd_worker.process.sleep import Sleep
from shithubd_worker.settings.config import Config
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.turn.exchange import Exchange
from shithubd_worker.turn.selection import Selection
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.tray import Tray
from shithubd_worker.turn.upkeep import Upkeep
from shithubd_worker.turn.wire import Wire


class Rooms:
    """The parts of one worker. `timeouts`: the lease timeouts of its kinds. `reached`: is there a database, so that the
    worker can be registered? `grace`: of its stop, in seconds."""

    def __init__(
        self,
        url: str,
        timeouts: Mapping[str, float] | None = None,
        *,
        window: float = 0.0,
        grace: float = 25.0,
        until_empty: bool = False,
        reached: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        timeouts = {"k": 60.0} if timeouts is None else timeouts
        self.identity = replace(identify(), id=uuid4())
        self.beat = ControlSession(connector(url, "control"), "public")
        self.queue = QueueSession(connector(url, "main"), "public", self.identity.id)
        if reached:
            self.beat.register(Registration(self.identity, list(timeouts)))
        self.metrics = Metrics(list(timeouts), self.identity.leased_by)
        self.clock, self.tray, self.stop = Clock(lambda _: None), Tray(), Stop(grace)
        self.progress = Progress(self.stop)
        self.selection = Selection(list(timeouts), self.clock, window, until_empty=until_empty, monotonic=monotonic)
        self.settler = Settler(self.identity.leased_by, self.tray, self.metrics)
        self.upkeep = Upkeep(self.queue, self.clock, timeouts, drop=False)
        wire = Wire(self.queue, timeouts, pooled=False)
        self.exchange = Exchange(wire, self.tray, self.selection, self.settler, self.upkeep, self.stop, self.metrics)
        self.bell = SelfPipe()
        self.live = LiveConfig(Config(), None, self.stop, self.selection.pace)
        self.sleep = Sleep(self.queue, self.selection, self.bell, self.live, self.metrics)
        self.found: list[str] = []  # each time that the database was found again
        self.reconnect = Reconnect(
            self.queue,
            self.exchange,
            self.progress,
            self.sleep,
            drop=self.queue.close,
            connect=self.listen,
            found=lambda: self.found.append("found"),
        )
        self.patience = Patience(
            self.queue, self.selection.caution, self.progress, self.sleep, self.reconnect, self.metrics
        )
        self.shutdown = Shutdown(self.exchange, self.settler, self.reconnect, self.patience, self.progress, self.sleep)

    def listen(self) -> None:
        """Open the queue's connection, and listen for jobs that become runnable."""
        self.queue.listen(self.selection.heard)

    def counted(self, name: str, **labels: str) -> float:
        """The value of a counter of the metrics."""
        return self.metrics.registry.get_sample_value(f"shithub_worker_{name}", labels) or 0.0

    def waits(self, seconds: Callable[[float], None]) -> None:
        """From now on nobody sleeps: each wait is passed to this function."""
        self.sleep.wait = seconds  # type: ignore[method-assign]

    def close(self) -> None:
        """Close what they have open."""
        for each in (self.queue, self.beat, self.bell):
            each.close()
