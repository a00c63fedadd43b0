"""Arrays in PostgreSQL's own notation, for queries that carry hundreds of jobs. Pure text.

This is ten times as fast as psycopg's own way, which looks up the type of each item.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from shithubd_worker.model import Finished

T = TypeVar("T")


def settle_arguments(finished: Sequence[Finished]) -> tuple[str, ...]:
    """The arguments of settle_v1. A value that is the same for all jobs is written once."""
    outcomes = _same([each.outcome for each in finished])
    return (
        as_array([str(each.lease.id) for each in finished]),
        as_array(_same([each.lease.batch.token for each in finished])),
        as_array([each.how for each in outcomes]),
        as_array([str(each.delay_seconds) for each in outcomes]),
        as_quoted_array([each.error for each in outcomes]),
        as_array(_same([each.retention for each in finished])),
    )


def as_array(items: Sequence[str]) -> str:
    """An array of items that need no quotes: ids, words.

    >>> as_array(["1", "2"])
    '{1,2}'
    """
    return f"{{{','.join(items)}}}"


def as_quoted_array(items: Sequence[str | None]) -> str:
    """An array of any texts and nulls."""
    return as_array(["NULL" if item is None else _quoted(item) for item in items])


def _same(items: list[T]) -> list[T]:
    return items[:1] if items and items.count(items[0]) == len(items) else items


def _quoted(item: str) -> str:
    escaped = item.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
