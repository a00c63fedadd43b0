"""What an operator does about workers that are gone: takes their jobs back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from shithubd_worker.admin.change import Calls
from shithubd_worker.settings.table import LONGEST_SECONDS

MOST_SWEPT = 2000  # the most expired leases of one transaction
# In seconds. A worker that was silent for a shorter time may live. The rows of workers are kept for a day of silence.
STALE_AFTER = (30.0, LONGEST_SECONDS)
DELAY = (0.0, LONGEST_SECONDS)


class Unlocked(NamedTuple):
    """What became of the workers with some names. docs/sql.md has the members (unlock_workers_v1)."""

    returned: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    unknown: list[str]
    left_over: int


class Returned(NamedTuple):
    """A job that a sweep took back. `state` is queued, or failed: see `last_error`. `leased_by` is its former owner."""

    id: int
    kind: str
    state: str
    leased_by: str
    last_error: str | None


class Swept(NamedTuple):
    """What one sweep did. docs/sql.md has the members (sweep_leases_v1)."""

    returned: list[dict[str, Any]]
    unexpired: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    audit: int | None


def all_of(host: str) -> str:
    """The name that means all workers of a host (named_workers_v1)."""
    return f"{host}:*"


def unlock(calls: Calls, names: Sequence[str], reason: str | None, actor: str, *, accept_second_run: bool) -> Unlocked:
    """Take all jobs back from workers that are gone. Raises psycopg's ObjectInUse if one of them beats."""
    return Unlocked(*calls.rows("unlock_workers_v1", list(names), accept_second_run, reason, actor)[0])


def sweep(
    calls: Calls,
    reason: str | None,
    actor: str,
    *,
    stale_after: float | None = None,
    delay: float = 0.0,
    accept_second_run: bool = False,
) -> Iterator[Swept]:
    """Take expired leases back, and with `stale_after` the jobs of workers that were silent for so many seconds: a
    batch and a transaction after the other, until there is none. All have one audit row."""
    audit: int | None = None
    while True:
        now = time.time()
        rows = calls.rows(
            "sweep_leases_v1", reason, actor, now, audit, MOST_SWEPT, stale_after, accept_second_run, delay
        )
        swept = Swept(*rows[0])
        audit = swept.audit
        yield swept
        if not swept.returned:
            return
