"""The buckets in which durations are counted: fine ones for `stats`. Each lies in one of Prometheus'."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, log, sqrt

# Prometheus' upper bounds, in seconds. Up to an hour: the longest common limits are ten and fifteen minutes.
DURATIONS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
# What is shorter counts as 0, what is longer as this long.
SHORTEST, LONGEST = 0.0001, 30 * 86_400.0
# No bound is more than so many times the one before. A value is at most the root of it away from the middle of its
# bucket: 9.6 %.
RATIO = 1.2


def _fine() -> tuple[float, ...]:
    bounds = [SHORTEST]
    for low, high in pairwise((SHORTEST, *DURATIONS, LONGEST)):
        steps = ceil(log(high / low) / log(RATIO))
        bounds += [*(low * (high / low) ** (step / steps) for step in range(1, steps)), high]
    return tuple(bounds)


# The upper bounds of the fine buckets. Above the last one is one bucket more.
BOUNDS = _fine()
# The middle of each bucket, in microseconds. By it, the database knows the bucket.
MIDDLES = (0, *(round(1e6 * sqrt(low * high)) for low, high in pairwise(BOUNDS)), round(1e6 * LONGEST))
# Where Prometheus' bounds stand among the fine ones.
PLACES = tuple(BOUNDS.index(bound) for bound in DURATIONS)
