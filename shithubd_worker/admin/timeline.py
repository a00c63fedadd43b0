"""What happened in a window of time: changes by operators, jobs that ended badly, new workers. And what is so now.

Each event is an object: `at`, `sort`, and what the database knows of it. The sorts are

- change: a row of the audit record, as `audit list` has it
- failed, poison, crashed, lease_lost: jobs of one kind that ended so within a while; `jobs` says how many
- started: workers of one host that started within a while, and are still known; `workers` says how many
- held: a hold that stands now
- silent: a worker that should beat, and does not
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from shithubd_worker.admin.change import Calls
from shithubd_worker.admin.record import Chosen, listed

# A window has at most so many whiles.
_WHILES = 120
_WIDTHS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 1440))

Event = dict[str, Any]


class Timeline(NamedTuple):
    """The events, the oldest first; then what is so now. `cut`: there were more events, which are older."""

    events: list[Event]
    now: list[Event]
    cut: bool


def look(calls: Calls, since: datetime, before: datetime, limit: int, *, now: bool) -> Timeline:
    """Everything about a window: at most `limit` changes, and as many rows of jobs that ended badly. This changes
    nothing."""
    width = while_of(since, before)
    changes = [{**row, "sort": "change"} for row in listed(calls, Chosen(since=since, until=before), limit + 1)]
    ended = [
        {**row, "sort": row.pop("outcome")} for (row,) in calls.rows("ended_badly_v1", since, before, width, limit + 1)
    ]
    workers = [row for (row,) in calls.rows("workers_v1")]
    started = list(_started(workers, since, before, width))
    cut = max(map(len, (changes, ended, started))) > limit
    newest = [each for sort in (changes, ended, started) for each in sort[-limit:]]
    events = sorted(newest, key=lambda event: datetime.fromisoformat(event["at"]))
    if not now:
        return Timeline(events, [], cut)
    held = [{**row, "at": row["created"], "sort": "held"} for (row,) in calls.rows("list_holds_v1", limit)]
    silent = [{**row, "at": row["beat_at"], "sort": "silent"} for row in workers if row["silent"]]
    return Timeline(events, [*held, *silent[:limit]], cut)


def while_of(since: datetime, before: datetime) -> timedelta:
    """For how long events of one sort are counted together."""
    return next((width for width in _WIDTHS if (before - since) / width <= _WHILES), _WIDTHS[-1])


def _started(workers: list[Event], since: datetime, before: datetime, width: timedelta) -> Iterator[Event]:
    found: dict[tuple[int, str], Event] = {}
    for worker in sorted(workers, key=lambda row: datetime.fromisoformat(row["started_at"])):
        at = datetime.fromisoformat(worker["started_at"])
        if since <= at < before:
            event = {"at": worker["started_at"], "sort": "started", "host": worker["host"], "workers": 0}
            event |= {"leased_by": worker["leased_by"], "unit": worker["unit"]}
            found.setdefault(((at - since) // width, worker["host"]), event)["workers"] += 1
    yield from found.values()
