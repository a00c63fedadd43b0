"""The record of what operators changed: it lists and shows the rows, and undoes what they did to jobs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from shithubd_worker.admin.change import Calls
from shithubd_worker.plain import Json, json_or_text

UNCHANGED = "unchanged"  # why an undo leaves a job alone: it is already as it was
LOCKED = "locked"


class Chosen(NamedTuple):
    """Which rows of the record are meant. None means any."""

    action: str | None = None
    actor: str | None = None
    job: int | None = None
    since: datetime | None = None
    until: datetime | None = None


class JobChange(NamedTuple):
    """What a change made of a job: its faces (job_face_v1) before and after, and how they differ."""

    job: int
    before: Json | str | None
    after: Json | str | None
    text: str | None


class Undone(NamedTuple):
    """What one transaction of an undo did. Or what it would do: then the examples are the first jobs, each with its id
    and its `changes`."""

    restored: int
    left: dict[int, str]  # why each other job is left alone: undo_chunk_v1 has the words
    undo: int | None = None  # the undo's own audit row
    parked: tuple[str, ...] = ()  # kinds with restored jobs that are paused, although no pause of the kind stands
    examples: tuple[dict[str, Any], ...] = ()


def listed(calls: Calls, chosen: Chosen, limit: int) -> list[dict[str, Any]]:
    """The newest rows. The newest comes last."""
    return [_readable(row[0]) for row in calls.rows("list_audit_v1", *chosen, limit)]


def shown(calls: Calls, audit: int) -> dict[str, Any] | None:
    """One row, and what can be undone of it. None if there is no such row."""
    found = calls.rows("show_audit_v1", audit)[0][0]
    return None if found is None else _readable(found)


def changes(calls: Calls, audit: int, limit: int | None) -> Iterator[JobChange]:
    """What became of each job of a row; at most `limit` jobs."""
    chunk, seen = 0, 0
    while limit is None or seen < limit:
        found = calls.rows("audit_changes_v1", audit, chunk, None if limit is None else limit - seen)
        if not found:
            return
        chunk = found[-1][0]
        seen += len(found)
        yield from (JobChange(job, _json(old), _json(new), text) for _, job, old, new, text in found)


def undo(calls: Calls, audit: int, actor: str, reason: str | None = None) -> Iterator[Undone]:
    """Restore the jobs of a row that nobody has touched since, a chunk and a transaction after the other. Each is
    yielded as soon as it is committed. The last transactions try the jobs again that another session had locked; they
    wait for it."""
    chunk, row = 0, None
    again: list[tuple[int, list[int]]] = []
    while True:
        ended, restored, refused, row, parked = calls.rows("undo_change_v1", audit, chunk, None, reason, actor, row)[0]
        if ended is None:
            break
        locked, left = _apart(refused)
        if locked:
            again.append((chunk, locked))
        chunk = ended
        yield Undone(restored, left, row, tuple(parked))
    for before, jobs in again:
        locked = jobs
        while locked:
            # Most likely one session has locked them all. So wait for the first, and take the rest together.
            some, rest = locked[:1], locked[1:]
            locked = []
            for ids in filter(None, (some, rest)):
                _, restored, refused, row, parked = calls.rows(
                    "undo_change_v1", audit, before, ids, reason, actor, row
                )[0]
                still, left = _apart(refused)
                locked += still
                yield Undone(restored, left, row, tuple(parked))


def would_undo(calls: Calls, audit: int) -> Iterator[Undone]:
    """What `undo` would do now, chunk by chunk. This changes nothing, and doesn't see locks."""
    chunk = 0
    while True:
        chunk, restored, refused, examples = calls.rows("undo_preview_v1", audit, chunk)[0]
        if chunk is None:
            return
        yield Undone(restored, _apart(refused)[1], examples=tuple(examples))


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "detail": _json(row["detail"])}


def _json(text: str | None) -> Json | str | None:
    return None if text is None else json_or_text(text)


def _apart(refused: dict[str, str]) -> tuple[list[int], dict[int, str]]:
    """The jobs that are locked, and why each other one is left."""
    locked = [int(job) for job, why in refused.items() if why == LOCKED]
    return locked, {int(job): why for job, why in refused.items() if why != LOCKED}
