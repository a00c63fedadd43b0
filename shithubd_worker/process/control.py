"""The control thread: what must go on while a handler runs.

It beats, renews the lease of the running job, hears signals even while the main thread is inside C, tells systemd,
and ends the process when a handler ignores its interrupt. It has a database connection of its own; while that is
away it keeps the deadlines all the same.
"""

from __future__ import annotations

import logging
import math
import random
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from shithubd_worker import backoff
from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.attempt.raised import stands_at
from shithubd_worker.database.clock import Clock
from shithubd_worker.database.control_session import FORCED, ControlSession
from shithubd_worker.database.session import DatabaseError, in_one_line, lost
from shithubd_worker.errors import EXIT_ERROR, EXIT_FORCED, EXIT_OK, ConfigError
from shithubd_worker.host.dead_man import SIGNAL, DeadMan
from shithubd_worker.host.signals import SelfPipe, Stop, end_process
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.model import Finished, How, Identity
from shithubd_worker.process.progress import Progress
from shithubd_worker.telemetry import logs
from shithubd_worker.timing import (
    ASK_AGAIN_SECONDS,
    BEAT_SECONDS,
    CLOCK_LOOK_SECONDS,
    ENDING_SECONDS,
    EXTEND_AGAIN_SECONDS,
    EXTEND_STOP_SECONDS,
    INTERRUPT_AGAIN_SECONDS,
    LOST_ALARM_SECONDS,
    PATIENCE_SECONDS,
    PING_SECONDS,
    QUICK_TICK_SECONDS,
    RENEW_AFTER,
    SETTLE_AFTER_SECONDS,
    SHOWN_AFTER_SECONDS,
    STALLED_SECONDS,
    STAND_DOWN_SECONDS,
    TOLD_AGAIN_SECONDS,
    tick,
)
from shithubd_worker.turn.relief import Relief
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.tray import Tray

if TYPE_CHECKING:
    from shithubd_worker.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Control(threading.Thread):
    """See the module. `start()` it once the worker is registered; `finish()` it when no handler can run any more."""

    def __init__(
        self,
        *,
        beat: ControlSession,
        clock: Clock,
        identity: Identity,
        kinds: Sequence[str],
        shortest_lease: float,
        progress: Progress,
        stop: Stop,
        ears: SelfPipe,
        wake_main: Callable[[], None],
        reload: Callable[[], None],
        systemd: Systemd,
        dead_man: DeadMan,
        lethal: Callable[[], bool],
        metrics: Metrics,
        tray: Tray,
        settler: Settler,
        strays: Callable[[], list[str]],
    ) -> None:
        super().__init__(name="control", daemon=True)
        self._beat = beat
        self._clock = clock
        self._identity = identity
        self._kinds = kinds
        self._tick = tick(shortest_lease)
        self._progress = progress
        self._stop_wish = stop
        self._ears = ears
        self._wake_main = wake_main
        self._reload = reload
        self._refused = ""
        self._systemd = systemd
        self._dead_man = dead_man
        self._lethal = lethal
        self._metrics = metrics
        self._tray = tray
        self._relief = Relief(beat, identity.id, tray, settler)
        self._settler = settler
        self._strays = strays
        self._main = threading.main_thread()
        self._finished = False
        self._beat_at = 0.0
        self._shown: object = None
        self._pinged_at = 0.0
        self._status_at = 0.0
        self._retry_at = self._lost_at = 0.0
        self._tries = 0
        self._refusals = 0
        self._stop_told = False
        self._rang_at = 0.0
        self._look_again_at = self._renew_again_at = self._show_again_at = self._settle_again_at = 0.0
        self._late_since = math.inf

    def finish(self) -> None:
        """End the thread; returns when it is over."""
        self._finished = True
        self._ears.wake()
        self.join(timeout=5)

    def run(self) -> None:
        """Every tick: hear, keep deadlines, speak to the database, speak to systemd."""
        # A handler may have blocked all signals in its thread: then a stop, or the dead man's, is taken by this one.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, SIGNAL})
        while not self._finished:
            # Quicker while there is something that a slow handler would keep.
            self._progress.watched = self._tray.at_hand or self._settler.waiting
            try:
                self._listen(QUICK_TICK_SECONDS if self._progress.watched else self._tick)
                self._hear()
                self._keep_deadlines(time.monotonic())
                self._speak_to_database(time.monotonic())
                self._speak_to_systemd(time.monotonic())
            except Exception:  # a fault here must end the process, not leave a worker without its control thread
                log.exception("the control thread failed")
                end_process(EXIT_ERROR)

    def _listen(self, seconds: float) -> None:
        """Until somebody calls, or the database does: that it ends this connection is news."""
        sources = select.poll()  # select() knows no descriptor above 1023
        sources.register(self._ears, select.POLLIN)
        if self._beat.opened:
            sources.register(self._beat.connection, select.POLLIN)
        sources.poll(seconds * 1000)

    def _hear(self) -> None:
        heard = self._ears.drain()
        for number in heard:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop_wish.hear(main=False)
        if signal.SIGHUP in heard:
            self._take_over()
        if self._stop_wish.wanted and not self._stop_told:
            self._stop_told = True
            self._wake_main()
            self._ring()
            self._beat_at = 0.0

    def _take_over(self) -> None:
        """Somebody has changed the configuration."""
        self._systemd.reloading()
        self._refused = ""
        try:
            self._reload()
            self._wake_main()  # it may sleep for the old interval
        except ConfigError as error:
            self._refused = f"; not reloaded: {error.args[0]}"
            log.error("not reloaded, all stays as it was: %s", "; ".join(error.args))  # noqa: TRY400 (its text is enough)
        except Exception:  # whatever is wrong with a file, the job that runs must not end of it
            self._refused = "; not reloaded: see the journal"
            log.exception("not reloaded, all stays as it was")
        self._systemd.ready(self._status_line(time.monotonic()))

    def _ring(self) -> None:
        """Have the main thread look at its deadlines now. Not by SIGALRM: a handler may have made it deadly."""
        signal.pthread_kill(self._main.ident or 0, signal.SIGURG)

    def _keep_deadlines(self, now: float) -> None:
        attempt = self._progress.attempt
        if attempt is None or attempt.over or attempt.settled:
            with self._dead_man.held():
                if self._progress.attempt is attempt:
                    self._dead_man.stand_down(within=STAND_DOWN_SECONDS)
            self._late_since = math.inf
            return
        with self._dead_man.held():
            # Not one that hasn't started: its lease may be over, and then it won't.
            if self._progress.attempt is attempt and not attempt.shielded:
                self._dead_man.cover(*attempt.dead_man_at)
        if self._lethal():
            self._ring()  # the main thread alone can take signals back
        late = now - attempt.end_at
        if late < 0:
            self._late_since = math.inf
            return
        # Counted from when this thread saw it: after a stall of the whole process the handler had no turn to obey.
        self._late_since = min(now, self._late_since)
        ignored = now - self._late_since >= PATIENCE_SECONDS
        if not attempt.shielded and late >= LOST_ALARM_SECONDS and now - self._rang_at >= INTERRUPT_AGAIN_SECONDS:
            self._rang_at = now
            self._ring()
        if ignored and now >= self._stop_wish.kill_at:
            self._end(attempt, EXIT_OK)
        elif ignored and not attempt.shielded and attempt.why_end() != "stop":
            self._end(attempt, EXIT_FORCED)

    def _end(self, attempt: Attempt, code: int) -> None:
        """The handler ignores its interrupt: settle for the main thread, and end the process."""
        why = attempt.why_end() or "stop"
        log.critical(
            "job %d (%s) ignores its interrupt (%s): ending this process",
            attempt.lease.id,
            attempt.kind.name,
            why,
            extra={"job_id": attempt.lease.id, "kind": attempt.kind.name, "event": logs.HANDLER_ENDED},
        )
        attempt.end_children()
        try:
            if why != "lost":
                main = sys._current_frames().get(threading.main_thread().ident or 0)
                outcome = attempt.interrupted_outcome(why, stands_at(main))
                ran = time.monotonic() - attempt.started_at
                self._tray.finished.append(Finished(attempt.lease, outcome, attempt.kind.retention, ran))
            self._relief.give_back()
            self._relief.settle_finished()
            if why != "lost":
                self._beat.unregister(self._identity.id, self._strays())
        except DatabaseError as error:
            log.error("could not settle job %d: %s", attempt.lease.id, error)  # noqa: TRY400 (its text is enough)
        else:
            self._count_ended(attempt, forced=code == EXIT_FORCED)
        self._systemd.stopping()
        end_process(code)

    def _count_ended(self, attempt: Attempt, *, forced: bool) -> None:
        """What ends with this process, and no scrape will see."""
        if attempt.lost:
            self._metrics.processed({(attempt.kind.name, How.LEASE_LOST): 1})
        ended = self._metrics.last_word()
        if forced:
            ended[attempt.kind.name, FORCED] = 1
        try:
            self._beat.count_ended(ended)
        except DatabaseError as error:
            log.warning("could not count what ended: %s", in_one_line(error))

    def _speak_to_database(self, now: float) -> None:
        attempt = self._progress.attempt
        if self._tries and attempt is not None:
            attempt.unreachable = True
        if now < self._retry_at and self._progress.found_at <= self._lost_at:
            return
        if attempt is not None and attempt.asked_at is None:
            attempt.asked_at = now
        try:
            self._beat.heed()
            self._ask(now, attempt)
        except DatabaseError as error:
            if not self._tries:
                log.warning("control connection lost: %s", self._beat.last_word or in_one_line(error))
            self._refusals = self._refusals + 1 if self._beat.opened else 0
            self._beat.close()
            self._tries += 1
            self._progress.away = True
            self._lost_at = time.monotonic()
            if self._beat.login_refused is not None:
                self._wake_main()  # nobody beats any more: it must end
            # There is something to ask, by which it shows that the database is back.
            self._beat_at = self._show_again_at = self._renew_again_at = self._look_again_at = 0.0
            self._retry_at = self._lost_at + backoff.reconnect(self._refusals, random.random())  # noqa: S311
        else:
            if self._tries:
                self._wake_main()  # it may wait to look for itself
                self._metrics.reconnected("control")
            self._tries = self._refusals = 0
            self._progress.away = False
            if attempt is not None and now >= self._renew_again_at:  # no renewal was refused just now
                attempt.asked_at, attempt.unreachable = None, False

    def _ask(self, now: float, attempt: Attempt | None) -> None:
        """All that is due. What is refused must not keep the others from their turn."""
        for step in (self._look_at_clock, self._renew, self._relieve, self._show):
            try:
                step(now, attempt)
            except DatabaseError as error:
                if lost(error) or not self._beat.opened:
                    raise
                log.warning("the database refuses the control thread: %s", self._beat.in_the_way(error))

    def _relieve(self, now: float, attempt: Attempt | None) -> None:
        slow = attempt is not None and now - attempt.started_at >= SETTLE_AFTER_SECONDS
        if now < self._settle_again_at or not (slow or self._settler.waiting):
            return
        self._settle_again_at = now + ASK_AGAIN_SECONDS  # in case that the database refuses it
        self._relief.relieve(now, slow=slow)
        self._settle_again_at = 0.0

    def _look_at_clock(self, now: float, _attempt: Attempt | None) -> None:
        if now - self._clock.seen_at >= CLOCK_LOOK_SECONDS and now >= self._look_again_at:
            self._look_again_at = now + ASK_AGAIN_SECONDS  # in case that the database refuses it
            self._beat.look_at_clock(self._clock)
            if not self._beat.wakes_come():
                self._wake_main()  # it may sleep for long; the turn that follows finds the same

    def _renew(self, now: float, attempt: Attempt | None) -> None:
        if attempt is None or attempt.over or attempt.lost or attempt.settled:
            return
        timeout = attempt.kind.lease_timeout
        asked_at = attempt.lease_deadline - timeout  # when the lease's end was last written, or a little before
        # A database that crashed may have forgotten the lease: nobody waits for it to be on the disk.
        doubted_at = max(self._clock.stepped_at, self._lost_at, self._progress.found_at)
        due = now >= asked_at + timeout * RENEW_AFTER or asked_at < doubted_at
        if not due or now < self._renew_again_at:
            return
        sent_at = time.monotonic()
        self._renew_again_at = sent_at + ASK_AGAIN_SECONDS  # in case that the database refuses it
        renewed = self._beat.renew(attempt.lease, timeout)
        self._renew_again_at = 0.0
        if renewed:
            self._metrics.renewed(ok=True)
            attempt.lease_deadline = sent_at + timeout
            # At once: a handler that holds the interpreter may not let this thread run again.
            with self._dead_man.held():
                if self._progress.attempt is attempt:
                    self._dead_man.put_off(attempt.dead_man_at[0])
        elif not attempt.over and not attempt.shielded:
            # Not if the main thread is just committing the settle: then the lease is gone because it was ended.
            attempt.lost = True
            self._metrics.renewed(ok=False)
            self._ring()

    def _show(self, now: float, attempt: Attempt | None) -> None:
        """Beat when it is due, and when what `status` should show has changed. That a worker went from one quick job to
        the next is no news: it beats no more often, however many there are."""
        running = attempt if attempt and not attempt.over and now - attempt.started_at >= SHOWN_AFTER_SECONDS else None
        state = self._progress.word(self._stop_wish, answered=True)
        token, unsettled = running.lease.token if running else None, self._settler.unsettled
        shown = ("at work" if state in ("idle", "running") else state, token, unsettled)
        told_again = BEAT_SECONDS if shown == self._shown else TOLD_AGAIN_SECONDS
        if now - self._beat_at < told_again or now < self._show_again_at:
            return
        self._show_again_at = now + ASK_AGAIN_SECONDS  # in case that the database refuses it
        holds = self._beat.beat(
            self._identity.id,
            state,
            running.lease.id if running else None,
            running.kind.name if running else None,
            now - running.started_at if running else None,
            unsettled,
            otherwise=self._progress.holds,
        )
        if holds is None:
            log.warning("this worker's row was gone: registering again")
            self._beat.register(self._identity, self._kinds)
            holds = []
        if holds != self._progress.holds:
            for hold in holds:
                log.info("held: %s", hold, extra={"event": logs.HELD})
            if not holds:
                log.info("no longer held")
        self._progress.holds = holds
        self._beat_at, self._shown, self._show_again_at = now, shown, 0.0

    def _speak_to_systemd(self, now: float) -> None:
        if not self._progress.ready:
            return
        if now - self._status_at >= TOLD_AGAIN_SECONDS:  # systemd tells each change to all who listen on its bus
            self._status_at = now
            self._systemd.status(self._status_line(now))
        attempt = self._progress.attempt
        running = attempt is not None and not attempt.over
        every = min(PING_SECONDS, (self._systemd.watchdog_seconds or PING_SECONDS * 3) / 3)
        if now - self._pinged_at < every and not (
            self._stop_wish.wanted and now - self._pinged_at >= EXTEND_AGAIN_SECONDS
        ):
            return
        self._pinged_at = now
        # A running handler is inside its max_runtime: _keep_deadlines has ended the process otherwise.
        progress = running or now - self._progress.ticked_at < STALLED_SECONDS
        if progress and not self._systemd.watchdog():
            self._pinged_at = 0.0  # again at the next tick
        if self._stop_wish.wanted and now < self._stop_wish.kill_at:
            # Not only while the handler runs: what it came to may still wait for the database.
            self._systemd.extend(min(EXTEND_STOP_SECONDS, self._stop_wish.kill_at - now + ENDING_SECONDS))

    def _status_line(self, now: float) -> str:
        return self._progress.sentence(self._stop_wish, now) + self._refused
