"""How long a failed attempt waits. Pure arithmetic: the caller passes the random number in."""

from __future__ import annotations

FIRST_SECONDS = 30.0
MOST_SECONDS = 3600.0
JITTER = 0.2
_DOUBLINGS_TO_MOST = 7  # 30 s · 2^7 > 1 h; a higher power would only lead to an overflow


def after_attempt(attempt: int) -> float:
    """Seconds to wait after the `attempt`-th failed attempt (from 1), before jitter: 30 s · 2^(n-1), at most 1 h.

    >>> [after_attempt(n) for n in (1, 2, 3, 7, 8, 1_000_000)]
    [30.0, 60.0, 120.0, 1920.0, 3600.0, 3600.0]
    """
    doublings = min(max(attempt, 1) - 1, _DOUBLINGS_TO_MOST)
    return min(FIRST_SECONDS * 2.0**doublings, MOST_SECONDS)


def jittered(seconds: float, chance: float) -> float:
    """`seconds` ± 20 %, so that jobs that failed together don't come back together. `chance` is in [0, 1).

    >>> jittered(100, 0.0), jittered(100, 0.5)
    (80.0, 100.0)
    """
    return seconds * (1 - JITTER + 2 * JITTER * chance)


def reconnect(refusals: int, chance: float) -> float:
    """Seconds to wait before the next attempt to reach the database: 0.1 to 0.7, however long it is away.

    A whole fleet loses its database in one moment and finds it again in one, so the waits spread its connections. If
    the database was reached but refused what it was asked, `refusals` times in a row, each refusal doubles the wait, up
    to eight times.

    >>> reconnect(0, 0.0), reconnect(0, 0.5), reconnect(1, 0.5), reconnect(50, 0.5)
    (0.1, 0.4, 0.8, 3.2)
    """
    return (0.1 + 0.6 * chance) * 2.0 ** min(refusals, 3)
