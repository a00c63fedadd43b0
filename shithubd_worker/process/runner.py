"""Runs the jobs at hand, one after the other, and learns from them what the next batch shall be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.attempt.outcome import Result, Settle
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.database.session import DatabaseError, lost
from shithubd_worker.host.dead_man import DeadMan
from shithubd_worker.host.process_state import ProcessState
from shithubd_worker.host.signals import Alarm, Stop
from shithubd_worker.model import Finished, Lease
from shithubd_worker.process.live import LiveConfig
from shithubd_worker.process.patience import Patience
from shithubd_worker.process.shared import Progress
from shithubd_worker.registry import Kind
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.timing import STAND_DOWN_SECONDS
from shithubd_worker.turn.exchange import Exchange
from shithubd_worker.turn.selection import Selection
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.tray import Tray
from shithubd_worker.turn.unstarted import Unstarted


class Runner:
    """For the main thread."""

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        config: LiveConfig,
        *,
        queue: QueueSession,
        ledger: HandlerSession,
        tray: Tray,
        exchange: Exchange,
        unstarted: Unstarted,
        settler: Settler,
        selection: Selection,
        patience: Patience,
        progress: Progress,
        stop: Stop,
        alarm: Alarm,
        dead_man: DeadMan,
        process_state: ProcessState,
        wake_control: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        self._kinds = kinds
        self._config = config
        self._queue = queue
        self._ledger = ledger
        self._tray = tray
        self._exchange = exchange
        self._unstarted = unstarted
        self._settler = settler
        self._selection = selection
        self._patience = patience
        self._progress = progress
        self._stop = stop
        self._alarm = alarm
        self._dead_man = dead_man
        self._process_state = process_state
        self._wake_control = wake_control
        self._metrics = metrics
        self._given_back = 0  # of tray.given_back: what the main thread knows of
        self._short: str | None = None  # what the last handler was refused: connections, memory, disk

    def work(self) -> None:
        """Run the jobs on the tray."""
        if (len(self._tray.leased) > 1 or self._tray.ahead) and not self._progress.watched:
            self._wake_control()  # the control thread shall look often
        seconds: dict[str, list[float]] = {}
        since = time.monotonic()
        while not (self._stop.wanted or self._short) and (lease := self._tray.next()) is not None:
            if lease.crashes > 0:
                self._unstarted.clear(lease)
            if lease.payload is None:
                self._unstarted.fetch(lease)
            elif (took := self._process(lease)) is not None:
                seconds.setdefault(lease.kind, []).append(took)
            else:
                self._learn(seconds, since)
                self._unstarted.look_again(lease, in_vain=not seconds)
                seconds, since = {}, time.monotonic()
        self._learn(seconds, since)
        if self._short:
            self._wait(self._short)

    def _learn(self, seconds: dict[str, list[float]], since: float) -> None:
        """From what ran since then: how long each job's handler took, by kind. What counts for the next batch is the
        time from one job to the next: reading payloads and waiting for a processor are in it."""
        if seconds:
            self._process_state.put_back(seconds)
            if not self._short:
                self._patience.ran()
        between = time.monotonic() - since - sum(map(sum, seconds.values()))
        jobs = sum(map(len, seconds.values()))
        given_back, self._given_back = self._tray.given_back - self._given_back, self._tray.given_back
        for kind, each in seconds.items():
            self._metrics.ran(kind, each)
            spent = sum(each) + between * len(each) / jobs
            self._selection.ran(kind, jobs=len(each), seconds=spent, too_many=given_back > 0)

    def _process(self, lease: Lease) -> float | None:
        """One leased job; how many seconds it took. What came of it is on the tray then, unless it settled itself.
        None if it may not start any more: then nothing has happened."""
        kind = self._kinds[lease.kind]
        config = self._config.now
        attempt = Attempt(kind, lease, config=config, database=self._ledger, stop=self._stop, alarm=self._alarm)
        result = attempt.prepare() or self._run(attempt)
        if result is None:
            return None
        seconds = time.monotonic() - attempt.started_at
        outcome, settle, if_away, short = result
        if if_away and self._database_went_away():
            outcome = if_away
        if short:
            self._short = short
        finished = Finished(lease, outcome, kind.retention, seconds)
        if settle is Settle.DUE:
            self._tray.finished.append(finished)
        elif settle is Settle.IN_DOUBT:
            self._tray.doubtful.append(finished)
        else:
            self._settler.report([finished])
        return seconds

    def _run(self, attempt: Attempt) -> Result | None:
        self._progress.attempt = attempt
        latest, slack = attempt.dead_man_at
        # Nothing is armed for a lease that is over already: the process would be ended for a job that doesn't start.
        if not self._dead_man.covers(latest, slack) and attempt.may_start():
            self._dead_man.cover(latest, slack)
        try:
            return attempt.run()
        finally:
            self._progress.attempt = None
            self._dead_man.stand_down(within=STAND_DOWN_SECONDS)
            self._process_state.check(attempt.kind.name)
            self._ledger.tidy()

    def _database_went_away(self) -> bool:
        """Was it the database, or only the handler's own connection?"""
        try:
            self._exchange.finish()
            self._queue.value("channel_v1")
        except DatabaseError as error:
            if not lost(error):
                return False  # if that stays, the next turn shows it; what the handler came to isn't on the tray yet
            self._exchange.database_is_back()
            return True
        return False

    def _wait(self, reason: str) -> None:
        """A handler was refused connections, memory or disk: settle, give back what is at hand, and pause."""
        self._short = None
        self._exchange.put_down()
        self._patience.short(reason)
