"""What the worker counted, for the figures of each kind (`stats`): written every few seconds, and at the end."""

from __future__ import annotations

import logging
import time
from typing import Any

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.database.control_session import FORCED, ControlSession
from shithubd_worker.database.failures import DatabaseError, lost, read_only
from shithubd_worker.model import How
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.timing import FIGURES_PART, FIGURES_SECONDS, LAST_FIGURES_SECONDS

log = logging.getLogger(__name__)

# So many kinds are written at once. It takes a few milliseconds.
MOST_KINDS = 200


class Figures:
    """For the control thread; once that has ended, for the main thread.

    Figures are written once at most. If the answer to a write is lost, nobody knows whether the database has it. It is
    not written again, and a warning says so: a rate that is too low for some minutes is better than one that is too
    high without a word. What the database refuses is written later.
    """

    def __init__(self, session: ControlSession, metrics: Metrics) -> None:
        self._session = session
        self._metrics = metrics
        self._due = 0.0
        self._refused: list[dict[str, Any]] = []

    def tick(self, now: float, _attempt: Attempt | None) -> None:
        """Write what is new, if that is due."""
        if now < self._due:
            return
        self._due = now + FIGURES_SECONDS
        began = time.monotonic()
        self._write()
        pause = (time.monotonic() - began) / FIGURES_PART
        self._due = now + (pause if self._metrics.tally.goes_on else max(FIGURES_SECONDS, pause))

    def leave(self, *, lease_lost: str | None = None, forced: str | None = None) -> None:
        """The worker ends: hand over all that it counted, and for the metrics what no scrape has seen. `lease_lost`: it
        ends because it lost the lease of a job of this kind; `forced`: because a handler of this kind does not stop."""
        if lease_lost is not None:
            self._metrics.processed({(lease_lost, How.LEASE_LOST): 1})
        ended = self._metrics.last_word()
        if forced is not None:
            ended[forced, FORCED] = 1
        self._session.count_ended(ended)
        by = time.monotonic() + LAST_FIGURES_SECONDS
        # What was refused, and the rest of the round that has begun; then a round of all kinds.
        for _ in range(2):
            self._write()
            while self._metrics.tally.goes_on:
                if time.monotonic() > by:
                    log.warning("what some kinds did in the last seconds is missing in `stats`: the database is slow")
                    return
                self._write()

    def _write(self) -> None:
        figures = self._refused or self._metrics.tally.take(MOST_KINDS)
        if not figures:
            return
        self._refused = figures
        try:
            self._session.write_stats(figures)
        except DatabaseError as error:
            if lost(error) and not read_only(error):
                self._refused = []
                log.warning("what %d kind(s) did in the last seconds may be missing in `stats`", len(figures))
            raise
        self._refused = []
