"""The worker's presence: its row in the database, and what systemd hears at the start and at the end."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

from shithubd_worker import backoff
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.failures import DatabaseError, explained
from shithubd_worker.errors import ConfigError, RightsMissing, SchemaMismatch
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.plain import lasting
from shithubd_worker.process.duties.figures import Figures
from shithubd_worker.process.shared import Progress
from shithubd_worker.process.sleep import Sleep
from shithubd_worker.process.startup import Startup
from shithubd_worker.timing import EXTEND_START_SECONDS

log = logging.getLogger(__name__)

# So many kinds are named in the log at the end of --until-empty.
MOST_KINDS = 10


class Presence:
    """For the main thread. It uses the control connection, which is free while the control thread doesn't run.
    `hang_up` closes the worker's connections."""

    def __init__(
        self,
        startup: Startup,
        session: ControlSession,
        progress: Progress,
        sleep: Sleep,
        systemd: Systemd,
        figures: Figures,
        hang_up: Callable[[], None],
    ) -> None:
        self._startup = startup
        self._session = session
        self._progress = progress
        self._sleep = sleep
        self._systemd = systemd
        self._figures = figures
        self._hang_up = hang_up

    def enter(self, database_wait: float) -> bool:
        """Reach the database and register. If it is away, wait for it for `database_wait` seconds. False if a stop was
        asked for meanwhile. Raises ShithubdError: at once for what only a person can put right, else at the end of that
        time."""
        began = time.monotonic()
        tries = 0
        while True:
            try:
                self._startup.begin()
            except DatabaseError as error:
                reason = self._startup.why(error)
                waited = time.monotonic() - began
                if isinstance(reason, (SchemaMismatch, RightsMissing, ConfigError)) or waited >= database_wait:
                    raise reason from error
                log.log(logging.WARNING if tries == 0 else logging.DEBUG, "waiting for the database: %s", reason)
                self._systemd.status(f"waiting for the database ({waited:.0f} s): {reason}")
                self._systemd.extend(EXTEND_START_SECONDS)
                tries += 1
                self._sleep.wait(backoff.reconnect(0, random.random()))  # noqa: S311
            else:
                return True
            if self._progress.stop.wanted:
                return False

    def ready(self) -> None:
        """Say that the worker leases from now on. Called once the control thread runs."""
        log.info("%s", self._startup)
        log.info("ready")
        self._progress.ready = True
        self._systemd.ready("held" if self._progress.holds else "idle")

    def leave(self, strays: Sequence[str], *, clean: bool) -> None:
        """The last step. A worker that ends with a lease keeps its row, because release-dead finds the lease by it. The
        leases of the tokens `strays` never started, so they can be given back."""
        self._systemd.stopping()
        if self._progress.database_up:
            try:
                self._figures.leave()
            except DatabaseError as error:
                log.warning("could not count what ended since the last scrape: %s", explained(error))
        if clean:
            try:
                self._session.unregister(self._startup.identity.id, strays)
            except DatabaseError as error:
                log.warning("could not delete this worker's row: %s", self._session.in_the_way(error))
            if not self._progress.stop.wanted:
                self._tell_what_waits()
        self._hang_up()

    def _tell_what_waits(self) -> None:
        """--until-empty found no job that can run. Others may wait for another worker, or for a later time."""
        try:
            waiting = self._session.waiting()
        except DatabaseError as error:
            log.warning("could not look which jobs still wait: %s", explained(error))
            return
        for kind, jobs, retried_in in waiting[:MOST_KINDS]:
            if kind not in self._startup.kinds:
                why = "this worker has no handler for it"
            elif retried_in is None:
                why = "they are held, or due later"
            else:
                why = f"the next retry is in {lasting(retried_in)}"
            log.info("%d job(s) of %s still wait: %s", jobs, kind or "further kinds", why)
        if len(waiting) > MOST_KINDS:
            log.info("jobs of %d more kinds still wait: see shithubd-worker status", len(waiting) - MOST_KINDS)
