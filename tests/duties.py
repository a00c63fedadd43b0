"""The parts of the control thread's duties, without a process: nothing happens but the ticks of the test."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from bare import BareWorker
from helpers_handlers import NoDatabase

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.client import enqueue
from shithubd_worker.database.clock import Clock
from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.host.dead_man import DeadMan
from shithubd_worker.host.identity import identify
from shithubd_worker.host.signals import Stop
from shithubd_worker.model import Batch, Lease, Outcome, Registration
from shithubd_worker.process.duties.outage import Outage
from shithubd_worker.process.duties.renewal import Renewal
from shithubd_worker.process.duties.trust import Trust
from shithubd_worker.process.shared import Progress
from shithubd_worker.registry import Kind, Registry
from shithubd_worker.settings.config import Config
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.turn.relief import Relief
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.tray import Tray

Body = Callable[[Attempt], None]


@contextmanager
def rung() -> Iterator[list[int]]:
    """How often the main thread was called: each call adds a number."""
    heard: list[int] = []
    before = signal.signal(signal.SIGURG, lambda number, _frame: heard.append(number))
    yield heard
    signal.signal(signal.SIGURG, before)


def kind_of(handler: Callable[[Any], None], **limits: Any) -> Kind:
    """The kind `k` with this handler."""
    registry = Registry()
    registry.handler("k", **limits)(handler)
    return registry["k"]


def run(
    body: Body, progress: Progress, stop: Stop, lease: Lease | None = None, **limits: Any
) -> tuple[Attempt, Outcome]:
    """An attempt whose handler does `body(attempt)`, in the main thread, as any handler."""
    failed: list[AssertionError] = []

    def handler(_job: Any) -> None:
        assert progress.attempt is not None
        try:
            body(progress.attempt)
        except AssertionError as error:
            failed.append(error)

    kind = kind_of(handler, **limits)
    given = lease or Lease(7, "k", "{}", 1, None, 0, 0, 0.0, Batch(str(uuid4()), 0.0, 0.0))
    outcome = None
    while outcome is None:  # a machine that stands still here makes the lease too old to start
        young = given._replace(batch=given.batch._replace(sent_at=time.monotonic()))
        attempt = Attempt(kind, young, config=Config(), database=NoDatabase(), stop=stop, alarm=lambda _at: None)
        assert attempt.prepare() is None
        progress.attempt = attempt
        outcome = attempt.run()
        progress.attempt = None
    if failed:
        raise failed[0]
    return attempt, outcome


class Parts:
    """The parts of one registered worker."""

    def __init__(self, url: str) -> None:
        self.me = identify()
        self.beat = ControlSession(connector(url, "test control"), "public")
        self.beat.register(Registration(self.me, ["k"]))
        self.stop, self.tray = Stop(25.0), Tray()
        self.progress = Progress(self.stop)
        self.metrics = Metrics(["k"], self.me.leased_by)
        self.settler = Settler(self.me.leased_by, self.tray, self.metrics)
        self.clock = Clock(lambda _seconds: None)
        self.woken: list[bool] = []
        self.outage = Outage(self.beat, self.progress, self.wake_main, self.metrics)
        self.dead_man = DeadMan()
        self.trust = Trust(self.progress, self.dead_man, 300.0)
        self.renewal = Renewal(self.beat, self.progress, self.clock, self.outage, self.trust, self.metrics)
        self.relief = Relief(self.beat, self.me.id, self.tray, self.settler)
        self._main = BareWorker(url, "public", self.me.id, "test main")
        self._enqueues = connector(url, "test")()

    def wake_main(self) -> None:
        self.woken.append(True)

    def lease(self, count: int = 1) -> list[Lease]:
        """This many jobs, enqueued and leased by one query."""
        for _ in range(count):
            enqueue(self._enqueues, "k", schema="public")
        return self._main.lease_all([kind_of(lambda _job: None)], count)

    def run(self, body: Body, **limits: Any) -> tuple[Attempt, Outcome]:
        """A leased job whose handler does this."""
        return run(body, self.progress, self.stop, self.lease()[0], **limits)

    def sample(self, name: str, **labels: str) -> float | None:
        """A metric, as a scrape sees it now."""
        return self.metrics.registry.get_sample_value(f"shithub_worker_{name}", labels)

    def close(self) -> None:
        """Close the connections."""
        self.dead_man.stand_down()
        self._enqueues.close()
        for each in (self.beat, self._main):
            each.close()
