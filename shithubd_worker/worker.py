"""The loop: lease, start, attempt, settle, wait. One job at a time, in the main thread."""

from __future__ import annotations

import gc
import logging
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg

from shithubd_worker import control, logs
from shithubd_worker.attempt import Attempt, short_delay
from shithubd_worker.config import LIVE, Config
from shithubd_worker.control import Control, Progress
from shithubd_worker.errors import EXIT_DATABASE, EXIT_OK, ShithubdError
from shithubd_worker.exchange import Exchange
from shithubd_worker.frontier import Frontier
from shithubd_worker.host import Alarm, DeadMan, Stop, Systemd, Wakeup, identify, signals_elsewhere
from shithubd_worker.line import Line
from shithubd_worker.model import Finished, How, Lease, Outcome
from shithubd_worker.patience import Patience
from shithubd_worker.prefetch import Pace
from shithubd_worker.registry import Kind
from shithubd_worker.session import Connect, explained, lost
from shithubd_worker.settling import Settler
from shithubd_worker.store import Beat, Ledger, Queue
from shithubd_worker.tray import Tray
from shithubd_worker.turns import Turns
from shithubd_worker.upkeep import Upkeep

if TYPE_CHECKING:
    from shithubd_worker.metrics import Metrics

log = logging.getLogger(__name__)

# A job starts within this time of the sending of its lease query, or after one more look at the holds. barrier_v1
# relies on it, and waits 500 ms: the difference is for a process that stands still between its look at the clock and
# the handler.
START_WITHIN_SECONDS = 0.4
# How long the loop waits for the database to answer before it reconnects.
ANSWER_SECONDS = 30.0

NOT_STARTED = Outcome(How.RELEASED, "released before it started: the worker stops, or is held")


class Unsettled(Exception):
    """The database stayed away until the worker had to go: outcomes could not be written."""


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
        self._queue = Queue(connect("shithubd-worker", ANSWER_SECONDS, True), schema_name, self._identity.id)
        self._beat = Beat(connect("shithubd-worker control", control.ANSWER_SECONDS, True), schema_name)
        self._ledger = Ledger(connect("shithubd-worker handler", None, False), schema_name)
        timeouts = {kind.name: kind.lease_timeout for kind in kinds}
        self._upkeep = Upkeep(self._queue, drop=not config.poll_only)
        self._tray = Tray()
        self._settler = Settler(self._identity.id, self._tray, metrics, timeouts)
        self._frontier, self._pace = Frontier(), Pace(config.prefetch)
        self._stop, self._alarm, self._dead_man = Stop(config.grace), Alarm(), DeadMan()
        self._wakeup, self._ears = Wakeup(), Wakeup()
        self._progress = Progress()
        self._short: str | None = None  # what the last handler was refused: connections, memory, disk
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
            on_anew=self._frontier.anew,
        )
        self._exchange = Exchange(
            list(self._kinds),
            queue=self._queue,
            turns=Turns(self._queue, self._identity.id, timeouts, pooled=config.poll_only),
            tray=self._tray,
            frontier=self._frontier,
            pace=self._pace,
            settler=self._settler,
            upkeep=self._upkeep,
            line=self._line,
            metrics=metrics,
            stop=self._stop,
            until_empty=config.until_empty,
        )
        self._patience = Patience(self._line, self._exchange)
        self._control = Control(
            beat=self._beat,
            identity=self._identity,
            kinds=list(self._kinds),
            shortest_lease=min(timeouts.values(), default=300.0),
            progress=self._progress,
            stop=self._stop,
            ears=self._ears,
            wake_main=self._wakeup.wake,
            reload=self._reload,
            systemd=self._systemd,
            dead_man=self._dead_man,
            metrics=metrics,
            tray=self._tray,
            settler=self._settler,
        )
        metrics.watch(self._control.running)

    def state(self) -> str:
        """What the worker is doing, in one word of metrics.STATES."""
        return self._control.state if self._progress.ready else "starting"

    def run(self) -> int:
        """Work until somebody asks to stop, or until the queue is empty if that was asked for."""
        self._catch_signals()
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
            self._line.leave(clean=clean)
        return EXIT_OK

    def _catch_signals(self) -> None:
        """A signal sets a flag and wakes the loop. Only the alarm raises, and only in a handler's frame."""
        self._ears.catch_signals()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGALRM, self._on_alarm)
        if self._reread is not None:
            signal.signal(signal.SIGHUP, lambda _number, _frame: None)  # the control thread hears it

    def _on_stop(self, number: int, frame: object) -> None:
        self._stop.hear(main=True)
        self._wakeup.wake()
        self._on_alarm(number, frame)  # a second one releases at once; the first sets the alarm to the grace's end

    def _on_alarm(self, number: int, frame: object) -> None:
        self._alarm.rang()
        if (attempt := self._progress.attempt) is not None:
            attempt.interrupt_if_due()

    def _reload(self) -> None:
        """In the control thread, also while a handler runs. Raises ConfigError, and then nothing has changed."""
        if self._reread is not None:
            new = self._reread()
            self._config = replace(self._config, **{name: getattr(new, name) for name in LIVE})
            self._stop.grace, self._pace.window = new.grace, new.prefetch

    def _loop(self) -> None:
        """A turn settles what is finished and leases what is next; where handlers are quick, the next turn is sent
        before they run, so that the database works while they do."""
        while not self._stop.wanted:
            self._progress.ticked_at = time.monotonic()
            try:
                again = self._exchange.turn(ahead=True)
                if self._tray.leased:
                    self._work()
                    if self._short:
                        self._wait(self._short)
                elif again or self._tray.unsettled or self._tray.doubtful:
                    pass  # another turn, at once
                elif self._config.until_empty:
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

    def _wait(self, reason: str) -> None:
        """A handler was refused connections, memory or disk: settle, give back what is at hand, and pause."""
        self._short = None
        self._exchange.finish()
        self._give_back(self._tray.take_leased())
        self._tray.doubtful.extend(self._tray.take_finished())
        self._settler.resolve(self._queue)
        self._patience.short(reason)

    def _work(self) -> None:
        """Run the jobs on the tray."""
        if (len(self._tray.leased) > 1 or self._tray.ahead) and not self._progress.watched:
            self._ears.wake()  # the control thread shall look often
        seconds: dict[str, list[float]] = {}
        while not (self._stop.wanted or self._short) and (lease := self._tray.next()) is not None:
            if lease.crashes > 0:
                self._clear(lease)
            if time.monotonic() - lease.batch.sent_at > START_WITHIN_SECONDS:
                self._look_again(lease)
            elif lease.payload is None:
                self._fetch(lease)
            else:
                seconds.setdefault(lease.kind, []).append(self._process(lease))
        if seconds and not self._short:
            self._patience.ran()
        for kind, each in seconds.items():
            self._metrics.ran(kind, each)
            self._pace.ran(kind, jobs=len(each), seconds=sum(each))

    def _look_again(self, lease: Lease) -> None:
        """For a lease that is too old to start by itself: ask for another look at the holds, for all of its batch that
        waits. What may start is put back on the tray."""
        self._read_answer(lease)
        waiting = self._tray.take_leased()
        batch = [lease, *(each for each in waiting if each.batch is lease.batch)]
        self._tray.leased.extend(each for each in waiting if each.batch is not lease.batch)
        token = str(uuid4())
        try:
            started = self._queue.start(batch, token, [self._kinds[each.kind].lease_timeout for each in batch])
        except BaseException as error:
            if isinstance(error, psycopg.Error) and not lost(error):
                self._give_back(batch)  # whichever of them it is: the next lease is a careful one
            else:
                self._upkeep.lost_answer(token)
                self._tray.leased.extendleft(reversed(batch))
            raise
        may = {each.id for each in started}
        self._give_back(each for each in batch if each.id not in may)
        self._tray.leased.extendleft(reversed(started))

    def _fetch(self, lease: Lease) -> None:
        """For a lease whose payload was left out of the answer: ask for it and for more, and put all back."""
        self._read_answer(lease)
        waiting = [lease, *self._tray.take_leased()]
        try:
            payloads = self._queue.payloads([e for e in waiting if e.payload is None and e.batch is lease.batch])
        except BaseException as error:
            if isinstance(error, psycopg.Error) and not lost(error):
                # Want of memory, most likely: not this one again at once.
                refused = Outcome(How.RELEASED, f"its payload can't be had now: {error}", short_delay())
                self._tray.finished.append(self._finished(waiting.pop(0), refused))
            self._tray.leased.extendleft(reversed(waiting))
            raise
        if lease.id not in payloads:  # it is lost
            self._give_back([waiting.pop(0)])
        elif (fault := payloads[lease.id][1]) is not None:
            poison = Outcome(How.POISON, f"the payload can't be given to its handler: {fault}")
            self._tray.finished.append(self._finished(waiting.pop(0), poison))
        for each in reversed(waiting):
            payload, _ = payloads.get(each.id, (each.payload, None))
            self._tray.leased.appendleft(each._replace(payload=payload))

    def _read_answer(self, lease: Lease) -> None:
        """Before anything else can be asked: the connection is busy with the turn that was sent ahead."""
        try:
            self._exchange.finish()
        except BaseException:
            self._tray.leased.appendleft(lease)
            raise

    def _clear(self, lease: Lease) -> None:
        """For a job that is leased alone: if it kills this process, it shall take no other along."""
        self._read_answer(lease)
        self._give_back(self._tray.take_leased())
        self._tray.doubtful.extend(self._tray.take_finished())
        try:
            self._settler.resolve(self._queue)
        except BaseException:
            self._tray.leased.appendleft(lease)
            raise

    def _give_back(self, leases: Iterable[Lease]) -> None:
        """Release what was not started, with the next turn."""
        self._tray.finished.extend(self._finished(each, NOT_STARTED) for each in leases)

    def _finished(self, lease: Lease, outcome: Outcome) -> Finished:
        """One that never started."""
        return Finished(lease, outcome, self._kinds[lease.kind].retention, 0.0)

    def _process(self, lease: Lease) -> float:
        """One leased job; how many seconds it took. What came of it is on the tray then, unless it settled itself."""
        kind = self._kinds[lease.kind]
        attempt = Attempt(kind, lease, config=self._config, database=self._ledger, stop=self._stop, alarm=self._alarm)
        outcome = attempt.prepare() or self._run(attempt)
        seconds = time.monotonic() - attempt.started_at
        if attempt.connection_broke and self._database_went_away():
            outcome = Outcome(How.RELEASED, f"released: the database went away under it: {outcome.error}")
        if outcome.how is How.LEASE_LOST:
            # Given up for want of the database, it may still be ours: then nobody ran the job meanwhile.
            outcome = Outcome(How.RELEASED, outcome.error)
        if attempt.short:
            self._short = attempt.short
        finished = Finished(lease, outcome, kind.retention, seconds)
        if attempt.settled:
            self._settler.report([finished])
        elif attempt.unknown:
            self._tray.doubtful.append(finished)
        else:
            self._tray.finished.append(finished)
        return seconds

    def _run(self, attempt: Attempt) -> Outcome:
        self._dead_man.cover(attempt.lease_deadline - attempt.kind.margin / 4)
        self._progress.attempt = attempt
        try:
            return attempt.run()
        finally:
            self._progress.attempt = None
            self._dead_man.stand_down(within=control.STAND_DOWN_SECONDS)
            self._ledger.tidy()

    def _database_went_away(self) -> bool:
        """Was it the database, or only the handler's own connection?"""
        try:
            self._exchange.finish()
            self._queue.value("channel_v1")
        except psycopg.Error as error:
            if not lost(error):
                raise
            self._upkeep.database_is_back()
            self._frontier.anew()
            return True
        return False

    def _put_down(self) -> None:
        """Before leaving: give back what is not started, settle what is finished, through reconnects."""
        while True:
            try:
                self._exchange.finish()
                self._give_back(self._tray.take_leased())
                self._tray.doubtful.extend(self._tray.take_finished())
                self._settler.resolve(self._queue, at_last=True)
                return
            except psycopg.Error as error:
                if lost(error) and self._reconnect(error):
                    continue
                if lost(error) or time.monotonic() >= self._stop.release_at:
                    ill = "is away" if lost(error) else "refuses"
                    raise Unsettled(
                        f"{len(self._tray.doubtful)} job(s) ended, but the database {ill}:"
                        " they stay leased until their timeout"
                    ) from error
                self._patience.refused(error)

    def _reconnect(self, error: Exception) -> bool:
        """Until the database answers again: True. False if the worker must go first."""
        self._exchange.give_up()
        if not self._line.reconnect(error, unsettled=bool(self._tray.doubtful or self._tray.at_hand)):
            return False
        self._upkeep.database_is_back()
        self._frontier.anew()
        return True
