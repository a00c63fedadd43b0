"""The worker's line to the database: reaching it, waiting for it, sleeping on it, leaving it."""

from __future__ import annotations

import logging
import math
import random
import select
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from shithubd_worker import backoff
from shithubd_worker.database import rights, schema
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.database.session import explained, in_one_line, lost, meaning
from shithubd_worker.database.sqlstates import LOCKED, Meaning
from shithubd_worker.errors import ConfigError, DatabaseUnavailable, RightsMissing, SchemaMismatch
from shithubd_worker.host.identity import is_dead
from shithubd_worker.host.signals import Stop, Wakeup
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.model import Identity
from shithubd_worker.process.shared import Progress
from shithubd_worker.settings.config import Config
from shithubd_worker.telemetry import logs
from shithubd_worker.timing import DEAF_SECONDS
from shithubd_worker.turn.damping import Damping

if TYPE_CHECKING:
    from shithubd_worker.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Line:
    """For the main thread. `on_anew` is called when something became runnable that may lie behind the last scan."""

    def __init__(
        self,
        config: Config,
        identity: Identity,
        kinds: Sequence[str],
        *,
        queue: QueueSession,
        beat: ControlSession,
        ledger: HandlerSession,
        stop: Stop,
        wakeup: Wakeup,
        progress: Progress,
        systemd: Systemd,
        metrics: Metrics,
        on_anew: Callable[[], None],
        wake_control: Callable[[], None],
    ) -> None:
        self._config = config
        self._identity = identity
        self._kinds = kinds
        self._queue = queue
        self._beat = beat
        self._ledger = ledger
        self._stop = stop
        self._wakeup = wakeup
        self._progress = progress
        self._systemd = systemd
        self._metrics = metrics
        self._on_anew = on_anew
        self._wake_control = wake_control
        self._damping = Damping()
        self._notified = False
        self._nap = 0.0  # seconds; not 0: nobody shall wake us
        self.deaf = False  # may it be that the next enqueue doesn't wake us?
        self.failures = 0  # times in a row that the database was lost before a turn was answered

    def enter(self) -> bool:
        """Reach the database, register, take back what dead workers of this host hold. False if stopped meanwhile."""
        began = time.monotonic()
        tries = 0
        while True:
            try:
                self._check()
                self._beat.register(self._identity, self._kinds)
                self._connect()
                self._take_back()
                self._progress.holds = self._beat.beat(self._identity.id, "idle", None, None, None) or []
                kinds = self._queue.kind_holds()
                woken = self._config.poll_only or self._queue.value("enqueues_notify_v1")
                with rights.in_pg_catalog(self._queue.connection):
                    open_to_all = schema.everybody_creates(self._queue.connection, self._queue.schema)
                break
            except psycopg.Error as error:
                reason = explained(error)
                if error.sqlstate == LOCKED:
                    reason = DatabaseUnavailable(self._queue.in_the_way(error))
                self._queue.close()
                self._beat.close()
                waited = time.monotonic() - began
                for_good = isinstance(reason, (SchemaMismatch, RightsMissing, ConfigError))
                if for_good or waited >= self._config.database_wait:
                    raise reason from error
                log.log(logging.WARNING if tries == 0 else logging.DEBUG, "waiting for the database: %s", reason)
                self._systemd.status(f"waiting for the database ({waited:.0f} s): {reason}")
                self._systemd.extend(30.0)
                tries += 1
                self._sleep(backoff.reconnect(0, random.random()), listen=False)  # noqa: S311
            if self._stop.wanted:
                return False
        for hold in (*self._progress.holds, *kinds):
            log.info("starting under a hold: %s", hold, extra={"event": logs.HELD})
        if open_to_all:
            log.warning(
                "everybody may create in schema %s, and so have code of theirs run by this worker: see SECURITY.md",
                self._queue.schema,
            )
        if not woken:
            log.info("enqueues wake no worker here: the server allows two-phase commits, and shithubd.notify isn't on")
        return True

    def ready(self) -> None:
        """From now on the worker leases: say so."""
        log.info(
            "%s, schema %s, kinds %s", self._identity.leased_by, self._queue.schema, ", ".join(self._kinds) or "none"
        )
        log.info("ready")
        self._progress.ready = True
        self._systemd.ready("held" if self._progress.holds else "idle")

    def _take_back(self) -> None:
        for other in self._beat.housemates(self._identity):
            proof = is_dead(other, self._identity)
            if proof is None:
                continue
            try:
                returned = self._beat.release_worker(other.id, f"its worker {other.leased_by} is dead: {proof}")
            except psycopg.Error as error:
                if lost(error):
                    raise
                # No reason not to start: what it holds returns when its leases expire.
                log.warning(
                    "%s is dead (%s), but can't be cleared away: %s", other.leased_by, proof, in_one_line(error)
                )
                continue
            log.info("%s is dead (%s): %d job(s) returned", other.leased_by, proof, len(returned))
            for job, kind, how in returned:
                logs.returned(job, kind, how)

    def leave(self, strays: Sequence[str], *, clean: bool) -> None:
        """Last of all. A worker that goes with a lease leaves its row, by which release-dead finds the lease; but what
        the lease queries of the tokens `strays` may have leased never started."""
        self._systemd.stopping()
        if self._progress.database_up:
            try:
                self._beat.count_ended(self._metrics.last_word())
            except psycopg.Error as error:
                log.warning("could not count what ended since the last scrape: %s", explained(error))
        if clean:
            try:
                self._beat.unregister(self._identity.id, strays)
            except psycopg.Error as error:
                log.warning("could not take the worker's row away: %s", self._beat.in_the_way(error))
        for session in (self._queue, self._beat, self._ledger):
            session.close()

    def reconnect(self, error: Exception, *, unsettled: bool) -> bool:
        """Until the database answers again: True. False if the worker must go first: at once when it was asked to
        stop and has nothing to settle, else at the end of the grace."""
        why = self._queue.last_word or (explained(error) if isinstance(error, psycopg.Error) else error)
        log.warning("the database is away: %s", why, extra={"event": logs.DATABASE_AWAY})
        self._progress.database_up = False
        lost_at, tries, refusals = time.monotonic(), 0, self.failures
        self.failures += 1
        while not (self._stop.wanted and (not unsettled or time.monotonic() >= self._stop.release_at)) or not tries:
            tries += 1
            self._queue.close()
            self._ledger.close()
            self._progress.ticked_at = time.monotonic()
            self._sleep(backoff.reconnect(refusals, random.random()), listen=False)  # noqa: S311
            refusals = 0
            try:
                self._connect()
            except psycopg.Error as refused:
                if not isinstance(explained(refused), DatabaseUnavailable):
                    raise
                continue
            log.info("the database is back after %.1f s and %d tries", time.monotonic() - lost_at, tries)
            self._progress.database_up = True
            self._progress.found_at = time.monotonic()
            self._wake_control()  # it need not look for itself
            self._metrics.reconnected("main")
            return True
        return False

    def goes_on(self) -> bool:
        """Shall there be another turn? Raises ShithubdError if the login of the control thread or of the handlers is
        refused for good: nobody would beat, or jobs would come back for ever."""
        self._progress.ticked_at = time.monotonic()
        if refused := self._beat.login_refused or self._ledger.login_refused:
            raise refused
        return not self._stop.wanted

    def see_whose_fault(self, error: psycopg.Error) -> None:
        """The database refused a turn. Raises ShithubdError if the schema or the role isn't what it was."""
        if meaning(error) is Meaning.OURS:
            self._check()

    def _check(self) -> None:
        with rights.in_pg_catalog(self._queue.connection):
            schema.check(self._queue.connection, self._queue.schema)
            rights.check(self._queue.connection, self._queue.schema, "shithub_worker")

    def in_the_way(self, error: psycopg.Error) -> str:
        """Why a turn was refused, and if it is for a lock, whose that is."""
        return self._queue.in_the_way(error)

    def no_trouble(self) -> None:
        """What the last pause was for is over."""
        self._progress.trouble = ""

    def pause(self, times: int, reason: str, *, most: float = math.inf) -> None:
        """Lease nothing for a moment, longer each time in a row, 5.6 s at most. A stop is heard at once, and the pause
        ends with its grace. The reason stands until `no_trouble`."""
        self._progress.ticked_at = time.monotonic()  # who waits for a disk isn't stalled
        seconds = backoff.reconnect(times, random.random())  # noqa: S311
        seconds = max(0.0, min(seconds, most, self._stop.release_at - time.monotonic()))
        log.log(logging.WARNING if times == 1 else logging.INFO, "pausing for %.1f s: %s", seconds, reason)
        self._progress.trouble = reason
        self._sleep(seconds, listen=False)

    def wait(self, seconds: float) -> None:
        """For something that nobody tells us of. A stop is heard at once."""
        self._sleep(seconds, listen=False)

    @property
    def called(self) -> bool:
        """Did something become runnable since the last turn was sent, that is worth another one at once?"""
        return self._notified and not self._nap

    def take_wakeup(self) -> tuple[bool, bool]:
        """For the turn that is sent now: is it the answer to a wake-up, and shall the next enqueue wake us?"""
        woken, self._notified = self._notified, False
        self._nap = self._damping.nap(time.monotonic()) if woken else 0.0
        return woken, not self._nap

    def woke(self, *, leased: bool) -> None:
        """What came of a wake-up."""
        self._damping.woke(time.monotonic(), leased=leased)

    def rest(self, seconds: float) -> None:
        """Sleep until something became runnable, a signal came, or the time is over."""
        if not self._nap:
            self._sleep(min(seconds, DEAF_SECONDS) if self.deaf else seconds, listen=True)
            self._queue.heed()
        else:
            self._sleep(min(seconds, self._nap), listen=False)
            self._queue.heed()
            # By those who had not seen yet that we can't be woken. The turn that follows sees what they enqueued.
            self._notified = False

    def _connect(self) -> None:
        # What was enqueued while nobody listened is found by the lease that follows.
        if self._config.poll_only:
            self._queue.value("channel_v1")  # any answer will do
        else:
            self._queue.listen(self._on_notify)

    def _on_notify(self, payload: str) -> None:
        self._notified = True
        self._metrics.woken("notify")
        if payload == "anew":
            self._on_anew()

    def _sleep(self, seconds: float, *, listen: bool) -> None:
        sources: list[Any] = [self._wakeup]
        if listen and self._queue.opened:
            sources.append(self._queue.connection)
        if not select.select(sources, [], [], seconds)[0]:
            self._metrics.woken("poll")
        self._wakeup.drain()
