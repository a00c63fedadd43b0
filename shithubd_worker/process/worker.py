"""The loop: lease, start, attempt, settle, wait. One job at a time, in the main thread."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg

from shithubd_worker.database.clock import Clock
from shithubd_worker.database.connection import Connect
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.database.session import explained, lost
from shithubd_worker.errors import EXIT_DATABASE, EXIT_OK, ShithubdError, Unsettled
from shithubd_worker.host.dead_man import DeadMan
from shithubd_worker.host.forks import Hooks
from shithubd_worker.host.identity import identify
from shithubd_worker.host.process_state import ProcessState
from shithubd_worker.host.signals import Alarm, Stop, Wakeup, signals_elsewhere
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.process.control import Control
from shithubd_worker.process.duties.asking import Asking
from shithubd_worker.process.duties.clock_look import ClockLook
from shithubd_worker.process.duties.deadlines import Deadlines
from shithubd_worker.process.duties.ending import Ending
from shithubd_worker.process.duties.hearing import Hearing
from shithubd_worker.process.duties.heartbeat import Heartbeat
from shithubd_worker.process.duties.outage import Outage
from shithubd_worker.process.duties.reloading import Reloading
from shithubd_worker.process.duties.renewal import Renewal
from shithubd_worker.process.duties.supervision import Supervision
from shithubd_worker.process.line import Line
from shithubd_worker.process.patience import Patience
from shithubd_worker.process.runner import Runner
from shithubd_worker.process.shared import Progress
from shithubd_worker.registry import Kind
from shithubd_worker.settings.config import LIVE, Config
from shithubd_worker.telemetry import logs
from shithubd_worker.timing import (
    CONTROL_ANSWER_SECONDS,
    HANDLER_ANSWER_SECONDS,
    LOCKED_AGAIN_SECONDS,
    MAIN_ANSWER_SECONDS,
)
from shithubd_worker.turn.exchange import Exchange
from shithubd_worker.turn.frontier import Frontier
from shithubd_worker.turn.prefetch import Pace
from shithubd_worker.turn.relief import Relief
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.shares import Shares
from shithubd_worker.turn.tray import Tray
from shithubd_worker.turn.unstarted import Unstarted
from shithubd_worker.turn.upkeep import Upkeep
from shithubd_worker.turn.wire import Turns

if TYPE_CHECKING:
    from shithubd_worker.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Worker:
    """One worker process. `run` returns its exit code. `connect` makes connectors, by name, answer_seconds and ours.
    `reread` answers a SIGHUP with the configuration as it is now; without it the signal is left as it is."""

    def __init__(
        self,
        config: Config,
        kinds: Sequence[Kind],
        connect: Callable[[str, float | None, bool], Connect],
        schema_name: str,
        metrics: Metrics,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        self._config = config
        self._reread = reread
        self._kinds = {kind.name: kind for kind in kinds}
        self._identity = identify()
        self._metrics = metrics
        self._systemd = Systemd()
        self._queue = QueueSession(
            connect("shithubd-worker", MAIN_ANSWER_SECONDS, True), schema_name, self._identity.id
        )
        self._beat = ControlSession(connect("shithubd-worker control", CONTROL_ANSWER_SECONDS, True), schema_name)
        for_handlers = connect("shithubd-worker handler", HANDLER_ANSWER_SECONDS, False)
        self._ledger = HandlerSession(for_handlers, schema_name, pooled=config.poll_only)
        timeouts = {kind.name: kind.lease_timeout for kind in kinds}
        self._clock = Clock(self._clock_was_set)
        self._upkeep = Upkeep(self._queue, self._clock, timeouts, drop=not config.poll_only)
        self._tray = Tray()
        self._settler = Settler(self._identity.leased_by, self._tray, metrics)
        self._frontier, self._pace, self._shares = Frontier(), Pace(config.prefetch), Shares()
        self._stop, self._alarm, self._dead_man = Stop(config.grace), Alarm(), DeadMan()
        self._wakeup, self._ears = Wakeup(), Wakeup()
        self._process_state = ProcessState(
            on_stop=self._on_stop,
            on_alarm=self._on_alarm,
            ears=self._ears,
            alarm=self._alarm,
            dead_man=self._dead_man,
            reload=reread is not None,
        )
        self._progress = Progress()
        self._waits = False  # has it said that it waits for locks before it leaves?
        self._line = Line(
            config,
            self._identity,
            list(self._kinds),
            queue=self._queue,
            beat=self._beat,
            ledger=self._ledger,
            stop=self._stop,
            wakeup=self._wakeup,
            progress=self._progress,
            systemd=self._systemd,
            metrics=metrics,
            on_anew=self._frontier.heard,
            wake_control=self._ears.wake,
        )
        self._exchange = Exchange(
            list(self._kinds),
            queue=self._queue,
            turns=Turns(self._queue, self._identity.id, timeouts, pooled=config.poll_only),
            tray=self._tray,
            frontier=self._frontier,
            pace=self._pace,
            shares=self._shares,
            settler=self._settler,
            upkeep=self._upkeep,
            line=self._line,
            clock=self._clock,
            metrics=metrics,
            stop=self._stop,
            until_empty=config.until_empty,
        )
        self._patience = Patience(self._line, self._exchange)
        self._unstarted = Unstarted(
            self._kinds,
            queue=self._queue,
            tray=self._tray,
            exchange=self._exchange,
            pace=self._pace,
            settler=self._settler,
            upkeep=self._upkeep,
        )
        self._runner = Runner(
            self._kinds,
            lambda: self._config,
            queue=self._queue,
            ledger=self._ledger,
            tray=self._tray,
            exchange=self._exchange,
            unstarted=self._unstarted,
            settler=self._settler,
            upkeep=self._upkeep,
            frontier=self._frontier,
            pace=self._pace,
            shares=self._shares,
            patience=self._patience,
            progress=self._progress,
            stop=self._stop,
            alarm=self._alarm,
            dead_man=self._dead_man,
            process_state=self._process_state,
            wake_control=self._ears.wake,
            metrics=metrics,
        )
        relief = Relief(self._beat, self._identity.id, self._tray, self._settler)
        outage = Outage(self._beat, self._progress, self._wakeup.wake, metrics)
        heartbeat = Heartbeat(self._beat, self._identity, list(self._kinds), self._progress, self._stop, self._settler)
        supervision = Supervision(self._systemd, self._progress, self._stop)
        hearing = Hearing(
            self._ears,
            self._stop,
            reload=Reloading(self._reload, self._systemd, supervision, self._wakeup.wake),
            wake_main=self._wakeup.wake,
            beat_now=heartbeat.hurry,
        )
        deadlines = Deadlines(
            self._progress,
            self._stop,
            self._dead_man,
            lethal=self._process_state.lethal,
            end=Ending(
                self._beat, self._identity.id, relief, strays=self._strays, metrics=metrics, systemd=self._systemd
            ),
        )
        asking = Asking(
            self._beat,
            self._progress,
            outage,
            ClockLook(self._beat, self._clock, self._wakeup.wake),
            Renewal(self._beat, self._progress, self._clock, outage, self._dead_man, metrics),
            relief,
            heartbeat,
        )
        self._control = Control(
            self._beat,
            self._ears,
            self._progress,
            self._tray,
            self._settler,
            shortest_lease=min(timeouts.values(), default=300.0),
            duties=[hearing, deadlines, asking, supervision],
        )
        metrics.watch(self.state, self._progress.running, self._progress.is_up)

    def state(self) -> str:
        """What the worker is doing, in one word of metrics.STATES."""
        return self._progress.state(self._stop)

    def run(self) -> int:
        """Work until somebody asks to stop, or until the queue is empty if that was asked for."""
        Hooks(self._process_state.disown).install()
        self._process_state.take()
        try:
            return self._live()
        finally:
            self._process_state.let_go()

    def _live(self) -> int:
        if not self._line.enter():
            return EXIT_OK
        with signals_elsewhere():
            self._control.start()
        self._line.ready()
        gc.freeze()  # what is loaded now stays: the collector need not look through it again and again
        clean = False
        try:
            self._loop()
            self._put_down()
            self._control.finish()
            self._put_down()  # what the control thread had in hand
            clean = True
        except Unsettled as error:
            log.error("%s", error)  # noqa: TRY400 (expected: its text says it all)
            return EXIT_DATABASE
        except (psycopg.Error, ShithubdError) as error:
            with suppress(psycopg.Error, Unsettled):
                self._put_down()  # what is finished may well be settled though nothing can be leased
            raise (explained(error) if isinstance(error, psycopg.Error) else error) from error
        finally:
            logs.flush()
            self._control.finish()
            self._dead_man.stand_down()
            self._line.leave(self._strays(), clean=clean)
        return EXIT_OK

    # A signal sets a flag and wakes the loop. Only the alarm raises, and only in a handler's frame.

    def _on_stop(self, number: int, frame: object) -> None:
        if self._process_state.is_childs(number):
            return
        self._stop.hear(main=True)
        self._wakeup.wake()
        self._on_alarm(number, frame)  # a second one releases at once; the first sets the alarm to the grace's end

    def _on_alarm(self, number: int, _frame: object) -> None:
        if self._process_state.is_childs(number):
            return
        self._process_state.revive()
        self._alarm.rang()
        if (attempt := self._progress.attempt) is not None:
            attempt.interrupt_if_due()

    def _strays(self) -> list[str]:
        """The tokens of lease queries whose answers were not read."""
        return self._upkeep.strays + self._tray.unanswered

    def _reload(self) -> None:
        """In the control thread, also while a handler runs. Raises ConfigError, and then nothing has changed."""
        if self._reread is not None:
            new = self._reread()
            self._config = replace(self._config, **{name: getattr(new, name) for name in LIVE})
            self._stop.grace, self._pace.window = new.grace, new.prefetch

    def _clock_was_set(self, seconds: float) -> None:
        """By the thread that noticed."""
        self._metrics.clock_stepped(seconds)
        logs.clock_stepped(seconds)

    def _loop(self) -> None:
        """A turn settles what is finished and leases what is next; where handlers are quick, the next turn is sent
        before they run, so that the database works while they do."""
        while self._line.goes_on():
            # What the control thread gives back meanwhile is in no answer to a turn that was sent before.
            all_at_hand = not self._tray.relieving and not self._exchange.sent
            try:
                again = self._exchange.turn(ahead=True)
                if self._tray.leased:
                    self._runner.work()
                elif again or self._tray.unsettled or self._tray.doubtful:
                    pass  # another turn, at once
                elif self._config.until_empty:
                    if all_at_hand and not self._wait_for_locks():
                        return
                elif not self._line.called:
                    logs.flush()
                    self._line.rest(self._frontier.patience(time.monotonic(), self._config.poll_interval))
            except psycopg.Error as error:
                self._metrics.claim_failed()
                if lost(error):
                    self._reconnect(error)
                else:
                    self._patience.refused(error)
            else:
                self._patience.served()

    def _put_down(self) -> None:
        """Before leaving: give back what is not started, settle what is finished, through reconnects."""
        while True:
            try:
                self._exchange.finish()
                self._unstarted.give_back(self._tray.take_leased())
                self._tray.doubtful.extend(self._tray.take_finished())
                self._settler.resolve(self._queue, at_last=True)
                if not self._wait_for_locks():
                    return
            except psycopg.Error as error:
                if lost(error) and self._reconnect(error):
                    continue
                if lost(error) or time.monotonic() >= self._stop.release_at:
                    ill = "is away" if lost(error) else "refuses"
                    raise self._unsettled(f"the database {ill}") from error
                self._patience.refused(error)

    def _wait_for_locks(self) -> bool:
        """For a moment, if what is finished can't be settled; until the end of the grace in all. False if all is."""
        self._progress.ticked_at = time.monotonic()
        if not self._settler.waiting:
            return False
        if not self._settler.may_pass:
            raise self._unsettled("the database refuses to write that down")
        if time.monotonic() >= self._stop.release_at:
            raise self._unsettled("somebody has locked their rows")
        if not self._waits:
            self._waits = True
            log.info("%s, and somebody has locked their rows: waiting", self._settler.left)
        self._line.wait(LOCKED_AGAIN_SECONDS)
        return True

    def _unsettled(self, why: str) -> Unsettled:
        return Unsettled(f"{self._settler.left}, but {why}: they stay leased until their timeout")

    def _reconnect(self, error: Exception) -> bool:
        """Until the database answers again: True. False if the worker must go first."""
        self._exchange.give_up()
        if not self._line.reconnect(error, unsettled=bool(self._tray.doubtful or self._tray.at_hand)):
            return False
        self._upkeep.database_is_back()
        self._frontier.anew()
        return True
