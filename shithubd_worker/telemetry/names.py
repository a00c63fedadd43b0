"""Which kinds have series of their own. Prometheus keeps each series, so they must not be a million."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

# A kind has about 50 series in each worker. recount_v1 counts on this number.
MOST_NAMED = 200
OTHER = "other"


def named(kinds: Iterable[str]) -> list[str]:
    """The kinds that have series of their own, of those that a worker handles: the first ones that it registered.

    >>> [len(named(map(str, range(n)))) for n in (3, 200, 20_000)]
    [3, 200, 200]
    """
    return list(islice(kinds, MOST_NAMED))
