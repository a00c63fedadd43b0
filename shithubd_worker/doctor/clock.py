"""This host's clock, compared with the database's.

Leases and schedules go by the database's clock alone, so a wrong clock of a host makes no job run early or twice. But
its log lines have wrong times, certificates look expired, and a handler that asks for the time gets a wrong one.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

from shithubd_worker.doctor.finding import Finding, Severity, Unchecked, finding
from shithubd_worker.plain import lasting

if TYPE_CHECKING:
    import psycopg

NOTICE_SECONDS, WARNING_SECONDS = 1.0, 60.0
_ROUNDS = 3


def skew(connection: psycopg.Connection, _name: str) -> Iterator[Finding | Unchecked]:
    """The database's clock was read between the moment before the question and the moment after its answer. So each
    round bounds the difference, and the bounds of all rounds hold."""
    low, high = -inf, inf
    for _ in range(_ROUNDS):
        before = time.time()
        (now,) = connection.execute("SELECT date_part('epoch', clock_timestamp())").fetchone() or (0.0,)
        low, high = max(low, before - now), min(high, time.time() - now)
    ahead = low > 0
    least = low if ahead else -high  # the difference is at least this; negative: there may be none
    if low > high:
        yield Unchecked("clock-skew", "a clock was set while it was compared")
    elif least >= NOTICE_SECONDS:
        severity = Severity.WARNING if least >= WARNING_SECONDS else Severity.NOTICE
        direction = "ahead of" if ahead else "behind"
        said = f"the clock of this host, {socket.gethostname()}, is {lasting(least)} {direction} the database's"
        evidence = {"host": socket.gethostname(), "seconds": round(least if ahead else -least, 3)}
        yield finding("clock-skew", severity, said, evidence)
