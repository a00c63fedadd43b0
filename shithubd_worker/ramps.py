"""A ramp: how a kind is resumed in steps. It is checked before anything is sent."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import NamedTuple

from shithubd_worker.options import seconds_in, whole

EVERY = 120.0
STOP_AT = 0.2
# The table ramps has the same limits.
CANARY, _PERCENT, _MOST_STEPS = (1, 1000), (1, 100), 100
_SHORTEST, _LONGEST = 1.0, 864_000.0
_HIGHEST_RATE = 1_000_000.0


class Ramp(NamedTuple):
    """A ramp, checked. `rate` is in leases per second, `stop_at` from 0 to 1. At least one of canary, steps and rate is
    set; `every` is set exactly if there are steps."""

    canary: int | None
    steps: list[int] | None
    every: float | None
    rate: float | None
    stop_at: float


def checked(
    canary: int | None,
    steps: Iterable[int] | None,
    every: float | timedelta | None,
    rate: float | None,
    stop_at: float | None,
    *,
    named: Callable[[str], str] = str,
) -> Ramp | None:
    """The ramp, or None if none is wanted. Raises TypeError or ValueError. `named` is how a message writes the name of
    an argument; `ramp` is the name of the steps."""
    if every is not None and steps is None:
        raise ValueError(f"{named('every')} says how long each step lasts: it needs {named('ramp')}")
    if canary is None and steps is None and rate is None:
        if stop_at is not None:
            raise ValueError(f"{named('stop_at')} needs {named('ramp')} or {named('rate')}")
        return None
    if stop_at is not None and steps is None and rate is None:
        raise ValueError(
            f"{named('stop_at')} needs {named('ramp')} or {named('rate')}: the first job of {named('canary')} that does"
            " not end ok stops the ramp"
        )
    return Ramp(
        None if canary is None else whole(named("canary"), canary, CANARY),
        None if steps is None else _steps(named("ramp"), steps),
        None if steps is None else EVERY if every is None else _every(named("every"), every),
        None if rate is None else _above_zero(named("rate"), rate, _HIGHEST_RATE, "1,000,000 jobs per second"),
        STOP_AT if stop_at is None else _above_zero(named("stop_at"), stop_at, 1.0, "1 (that is 100 %)"),
    )


def _steps(name: str, given: Iterable[int]) -> list[int]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be several percentages, such as [10, 50, 100], not {type(given).__name__}")
    steps = [whole(f"each step of {name}", step, _PERCENT) for step in given]
    if not 1 <= len(steps) <= _MOST_STEPS:
        raise ValueError(f"{name} must have 1 to {_MOST_STEPS} steps, not {len(steps)}")
    for before, after in itertools.pairwise(steps):
        if after <= before:
            raise ValueError(f"each step of {name} must be above the one before it, and {after} comes after {before}")
    return steps


def _every(name: str, given: float | timedelta) -> float:
    if not _SHORTEST <= (seconds := seconds_in(name, given)) <= _LONGEST:
        raise ValueError(f"{name} must be 1 second to 10 days, not {seconds:g} s")
    return seconds


def _above_zero(name: str, given: float, most: float, told: str) -> float:
    if isinstance(given, (bool, str, bytes, bytearray)) or not hasattr(given, "__float__"):
        raise TypeError(f"{name} must be a number, not {type(given).__name__}")
    try:
        number = float(given)
    except OverflowError:
        number = float("inf")
    if not 0 < number <= most:  # so is NaN
        raise ValueError(f"{name} must be above 0, and at most {told}")
    return number
