"""Which faults come when, drawn from the seed. Pure: the same seed draws the same faults."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# The values of --only. The last five are caused by operators, and by handlers that change their process.
SORTS = (
    "kill",
    "stop",
    "term",
    "stall",
    "quota",
    "burn",
    "cut",
    "silence",
    "backend",
    "database",
    "lock",
    "barrier",
    "ramp",
    "jobs",
    "sweep",
    "meddle",
)
# A thread of its own carries out each lane, one fault after the other, independent of the other lanes.
# For each sort: how often it is drawn, relative to the others of its lane.
LANES = {
    "processes": {"kill": 10, "stop": 6, "term": 5, "stall": 3, "burn": 1},
    "quotas": {"quota": 1},
    "lines": {"cut": 3, "backend": 4},
    "silences": {"silence": 1},
    "database": {"database": 1},
    "locks": {"lock": 1},
}
# Seconds between two faults of a lane.
GAPS = {
    "processes": (0.3, 1.7),
    "quotas": (1.0, 4.0),
    "lines": (2.0, 6.0),
    "silences": (2.0, 7.0),
    "database": (9.0, 26.0),
    "locks": (0.3, 3.0),
}


# After so many seconds without a sign of life a worker may be swept, and how much longer than that a silence lasts.
SILENT = 10.0
LONGER = (1.0, 6.0)


class Fault(NamedTuple):
    """One fault. The meaning of its numbers depends on its sort: see faults.py."""

    gap: float  # seconds after the fault before it in its lane
    sort: str
    how: str
    slot: int  # which worker it hits
    seconds: float
    times: int


def draw(seed: int, lane: str, only: Sequence[str], slots: int) -> Iterator[Fault]:
    """The faults of a lane, without end; none if `only` names none of its sorts.

    >>> first, again = next(draw(7, "processes", SORTS, 5)), next(draw(7, "processes", SORTS, 5))
    >>> first == again
    True
    """
    weights = {sort: weight for sort, weight in LANES[lane].items() if sort in only}
    dice = random.Random(f"{seed} {lane}")
    while weights:
        gap = dice.uniform(*GAPS[lane])
        sort = dice.choices(list(weights), list(weights.values()))[0]
        how, seconds = _detail(dice, sort)
        yield Fault(gap, sort, how, dice.randrange(slots), round(seconds, 3), dice.randint(4, 14))


def _detail(dice: random.Random, sort: str) -> tuple[str, float]:
    if sort == "stop":  # the short leases last 3 to 6 s
        return dice.choice([("short", dice.uniform(0.1, 2.0)), ("long", dice.uniform(4.0, 9.0))])
    if (
        sort == "silence"
    ):  # all of its connections are held back, or that of its control thread; it is stopped, or killed
        return dice.choice(["all", "control", "stop", "kill"]), SILENT + dice.uniform(*LONGER)
    if sort == "term":
        return dice.choice([("once", 0.0), ("twice", dice.uniform(0.0, 2.0))])
    if sort == "stall":  # below the reserve of the barrier: 0.4 s
        return "", dice.uniform(0.03, 0.3)
    if sort in ("burn", "quota"):
        return "", dice.uniform(0.5, 2.5)
    if sort == "lock":
        return dice.choice(["rows", "rows", "half a kind"]), dice.uniform(1.0, 10.0)
    if sort == "cut":
        return dice.choice([("drop", 0.0), ("reset", 0.0), ("stall", dice.uniform(0.3, 6.0))])
    if sort == "backend":
        return dice.choice(["terminate all", "terminate one", "terminate handlers", "cancel all", "cancel one"]), 0.0
    if sort == "database":  # how, and for how long it stays away
        return dice.choice(["kill", "kill", "immediate", "fast"]), dice.choice([0.0, 0.0, dice.uniform(0.5, 4.0)])
    return "", 0.0
