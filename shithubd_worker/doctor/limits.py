"""From which figure on something threatens the queue. The queries of sql/doctor name these limits: `:old_seconds`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from shithubd_worker.timing import COUNT_LIMIT_SECONDS

# A count of the queue steps over dead rows: so long for a million of them, measured (runbooks/alerts/XminHeldBack.md).
SECONDS_FOR_A_MILLION_DEAD = 0.15

LIMITS: Mapping[str, float] = {
    # A worker's own transactions take milliseconds. A handler's may take as long as the usual lease.
    "old_seconds": 300,
    # The alert XminHeldBack: so many dead rows, for so long.
    "many_dead_rows": 1_000_000,
    "unvacuumed_seconds": 1800,
    # Rows of one table that changed since its last ANALYZE.
    "many_changes": 1_000_000,
    # With more than these, the count for the metrics does not end in time, so the alerts on it are blind.
    "too_many_dead_rows": int(COUNT_LIMIT_SECONDS / SECONDS_FOR_A_MILLION_DEAD * 1_000_000),
    # For what holds back vacuum, and nobody knows since when: a standby, a slot, a session that this login may not see.
    "many_transactions": 1_000_000,
    # A file that is smaller than this is never too large for its rows.
    "large_bytes": 1 << 30,
    # What PostgreSQL keeps of its log for somebody who does not take it.
    "much_wal_bytes": 1 << 30,
    "too_much_wal_bytes": 16 << 30,
    # Parts of the queue of notifications. From the first on, workers at rest look twice a second (wakes_come_v1). At 1,
    # each transaction that sends one fails; ours stop sending at half of that (wake_v1).
    "notify_part": 0.25,
    "notify_full_part": 0.75,
    # Parts of a limit on connections.
    "used_part": 0.8,
    "used_up_part": 0.95,
    # Transactions since the oldest one that is not frozen. PostgreSQL refuses writes at 2.1 thousand million.
    "unfrozen": 1_000_000_000,
    "too_unfrozen": 1_900_000_000,
    # A lock on a table: longer than a migration waits or works, shorter than the patience of anybody.
    "locked_seconds": 5,
}


def filled(text: str, limits: Mapping[str, float]) -> str:
    """Put the limits in place of their names, which psql would read as its variables."""
    return re.sub(rf"(?<!:):({'|'.join(limits)})\b", lambda found: f"{limits[found[1]]!r}", text)
