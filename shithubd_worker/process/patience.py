"""What the loop does when the database, or the machine, refuses: one job at a time, and a pause that grows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shithubd_worker.database.sqlstates import LOCKED
from shithubd_worker.process.line import Line
from shithubd_worker.timing import LOCKED_PAUSE_SECONDS
from shithubd_worker.turn.exchange import Exchange

if TYPE_CHECKING:
    import psycopg


class Patience:
    """Counts what was refused in a row."""

    def __init__(self, line: Line, exchange: Exchange) -> None:
        self._line = line
        self._exchange = exchange
        self._refusals = 0  # turns that the database refused
        self._shortages = 0  # handlers that were refused connections, memory or disk

    def refused(self, error: psycopg.Error) -> None:
        """The database is there and refuses. The first time be careful at once; wait if that was refused too.

        Raises ShithubdError if only an operator can mend it.
        """
        self._line.see_whose_fault(error)
        self._exchange.be_careful()
        self._refusals += 1
        if self._refusals > 1:
            most = LOCKED_PAUSE_SECONDS if error.sqlstate == LOCKED else math.inf
            self._line.pause(self._refusals - 1, self._line.in_the_way(error), most=most)

    def served(self) -> None:
        """The database did as it was asked."""
        if self._refusals:
            self._refusals = 0
            self._line.no_trouble()

    def short(self, reason: str) -> None:
        """A handler was refused connections, memory or disk: leave the machine alone for a moment."""
        self._exchange.be_careful()
        self._shortages += 1
        self._line.pause(self._shortages, reason)
        self._line.no_trouble()

    def ran(self) -> None:
        """A handler ran for better or worse, and was refused nothing."""
        self._shortages = 0
