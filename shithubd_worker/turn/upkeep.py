"""What a worker puts right between two batches: leases of the dead, holds that reached their end, the history."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping
from typing import NamedTuple

from shithubd_worker.database.clock import Clock
from shithubd_worker.database.failures import DatabaseError, lost
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.telemetry import logs
from shithubd_worker.timing import (
    AMNESTY_SECONDS,
    HOUSEKEEPING_SECONDS,
    STRAY_SECONDS,
    SWEEP_BACK_SECONDS,
    SWEEP_SECONDS,
    SWEEP_SOONER_SECONDS,
)
from shithubd_worker.turn.frontier import Throttle

log = logging.getLogger(__name__)


class Recovery(NamedTuple):
    """How jobs return from workers that are gone. Seconds.

    `threshold`: take the jobs of a worker that was silent for so long; 0: of none. `interval`: how often one worker of
    the fleet looks for silent ones. `delay`: how long a job waits after a sweep took it back."""

    threshold: float = 0.0
    interval: float = 10.0
    delay: float = 0.0


class Upkeep:
    """Runs the sweeps and the housekeeping when they are due. `timeouts`: the lease timeouts of the worker's kinds.
    `drop`: may this worker drop old days of the history, if its login may?"""

    def __init__(
        self,
        queue: QueueSession,
        clock: Clock,
        timeouts: Mapping[str, float],
        recovery: Recovery = Recovery(),  # noqa: B008 (it is never changed)
        *,
        drop: bool,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._timeouts = timeouts
        self._recovery = recovery
        self._drop = drop
        self._said_who_drops = False
        self._strays: dict[str, float] = {}
        self._swept_at = 0.0
        self._sweep_at = 0.0
        self._silent_at = 0.0
        self._back_at = 0.0
        self._steady_since = 0.0
        self._everything = Throttle(times=1000)  # a look back has found what expired since
        self._housekeep_at = time.monotonic() + random.uniform(5, 60)  # noqa: S311

    def lost_answer(self, token: str) -> None:
        """A lease query got no answer. Its leases are given back as soon as they show."""
        self._strays[token] = time.monotonic() + STRAY_SECONDS

    @property
    def strays(self) -> list[str]:
        """The tokens of lease queries that got no answer."""
        return list(self._strays)

    def database_is_back(self) -> None:
        """The other workers lost the database too, so they get time to renew before their leases count as expired. What
        this worker may hold without knowing it is given back at once."""
        self._back_at = time.monotonic()
        self._sweep_at = 0.0
        self._everything.hurry()

    def do_what_is_due(self, *, idle: bool) -> None:
        """Sweep and do the housekeeping, if they are due. Raises what psycopg raises when the database is away. `idle`:
        no job is at hand."""
        now = time.monotonic()
        if now >= self._sweep_at - (SWEEP_SOONER_SECONDS if idle else 0.0):
            self._sweep_at = now + SWEEP_SECONDS
            try:
                self._sweep(now)
            except DatabaseError as error:  # a fault in another worker's lease must not end this one
                if lost(error):
                    raise
                log.warning("a sweep was refused: %s", self._queue.in_the_way(error))
        if now >= self._housekeep_at and now >= self._clock.steady_since + AMNESTY_SECONDS:
            self._housekeep_at = now + HOUSEKEEPING_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311
            self._housekeep()

    def _sweep(self, now: float) -> None:
        # Before the question whether the clock went steadily: the control thread may notice a step in between.
        earliest = self._clock.earliest(now)
        if self._clock.steady_since != self._steady_since:
            self._steady_since = self._clock.steady_since
            self._everything.hurry()
        everything = self._everything.due(now)
        back = None if everything else now - self._swept_at + SWEEP_BACK_SECONDS
        if now < max(self._back_at, self._steady_since) + AMNESTY_SECONDS:
            back = 0.0
        self._strays = {token: until for token, until in self._strays.items() if now < until}
        try:
            touched = self._queue.sweep(
                back=back,
                strays=self.strays,
                earliest=earliest,
                timeouts=self._timeouts,
                delay=self._recovery.delay,
            )
        finally:
            if back is None:  # after a refusal as well: the looks back go on meanwhile
                ended = time.monotonic()
                self._everything.looked(ended, ended - now)
        for job, kind, how in touched:
            logs.returned(job, kind, how)
        self._swept_at = now
        if back != 0.0 and self._recovery.threshold and now >= self._silent_at:
            self._silent_at = now + self._recovery.interval
            self._sweep_silent(now, earliest)

    def _sweep_silent(self, now: float, earliest: float) -> None:
        """Take the jobs of silent workers. The database's clock counts only for the time in which this worker has seen
        it go steadily: a step of it is no silence."""
        threshold, interval, delay = self._recovery
        steady = now - self._steady_since
        for job, kind, how, owner in self._queue.sweep_silent(threshold, interval, delay, earliest, steady):
            log.warning("%s was silent: its job %d returns", owner, job)
            logs.returned(job, kind, how)

    def _housekeep(self) -> None:
        try:
            may = self._drop and self._queue.may_drop
            if self._drop and not may and not self._said_who_drops:
                self._said_who_drops = True
                log.info(
                    "history: this login may not drop old days; their owner does, with `shithubd-worker history drop`"
                )
            for done in self._queue.housekeep(drop=may):
                log.info("history: %s", done)
        except DatabaseError as error:  # a missing right must not end the worker
            if lost(error):
                raise
            log.warning("history: %s", self._queue.in_the_way(error))
