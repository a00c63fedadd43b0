"""The options of an enqueue, checked before anything is sent.

An error of PostgreSQL would abort the caller's transaction.
"""

from __future__ import annotations

import operator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from shithubd_worker.model import check_kind

PRIORITIES = (-(2**15), 2**15 - 1)
ATTEMPTS = (1, 2**31 - 1)
LONGEST_DELAY = 100 * 366 * 86_400.0  # beyond a century, Python's and PostgreSQL's times are not safe


class Options(NamedTuple):
    """The options of an enqueue, checked: `delay` in seconds counts only without `run_at`."""

    delay: float
    run_at: datetime | None
    priority: int
    max_attempts: int | None


def checked(
    kind: str, delay: float | timedelta | None, run_at: datetime | None, priority: int, max_attempts: int | None
) -> Options:
    """The options of an enqueue of this kind. Raises TypeError or ValueError."""
    check_kind(kind)
    if delay is not None and run_at is not None:
        raise ValueError("give delay or run_at, not both")
    return Options(
        0.0 if delay is None else seconds_in("delay", delay),
        None if run_at is None else moment_in_utc(run_at),
        whole("priority", priority, PRIORITIES),
        None if max_attempts is None else whole("max_attempts", max_attempts, ATTEMPTS),
    )


def moment_in_utc(moment: datetime, name: str = "run_at") -> datetime:
    """The same moment in UTC. Raises TypeError or ValueError if PostgreSQL can't know it."""
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} must be a datetime with a time zone, not {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise ValueError(f"{name} needs a time zone: datetime.now(timezone.utc) + …")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{name} is outside of the years 1 to 9999 in UTC: {moment}") from error


def seconds_in(name: str, delay: float | timedelta) -> float:
    """A duration in seconds. Raises TypeError or ValueError."""
    if isinstance(delay, timedelta):
        seconds = delay.total_seconds()
    elif isinstance(delay, (bool, str, bytes, bytearray)) or not (
        hasattr(delay, "__float__") or hasattr(delay, "__index__")
    ):
        raise TypeError(f"{name} must be seconds or a timedelta, not {type(delay).__name__}")
    else:
        try:
            seconds = float(delay)
        except (OverflowError, ValueError) as error:
            raise ValueError(f"{name} can't be a number of seconds: {error}") from error
    if not -LONGEST_DELAY <= seconds <= LONGEST_DELAY:  # so is NaN
        raise ValueError(f"{name} must be at most a century, not {seconds:g} s")
    return seconds


def whole(name: str, value: int, limits: tuple[int, int]) -> int:
    """A whole number within its limits. Raises TypeError or ValueError."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    number, (least, most) = operator.index(value), limits
    if not least <= number <= most:
        raise ValueError(f"{name} must be {least} to {most}")
    return number
