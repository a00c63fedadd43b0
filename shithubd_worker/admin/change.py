"""One action of an operator to many jobs: which jobs it would change, and the change of a batch of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from shithubd_worker.plain import json_text

# At most so many jobs are a batch. The database takes fewer if they are large, or slow to change (change_jobs_v1).
BATCH = 2500

# What each action has done to a job that it changed, for people.
DONE = {
    "complete": "completed",
    "fail": "failed",
    "reschedule": "rescheduled",
    "retry": "retried",
    "discard": "discarded",
    "release": "released",
}


class Calls(Protocol):
    """Calls functions of the queue's schema: a Session, or a Client's connection."""

    def rows(self, function: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Call a function and return its rows."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is done, to which jobs it may be done, why, and who asks. docs/sql.md has the members of `values` and of
    `selection` (change_jobs_v1, job_condition_v1)."""

    action: str
    actor: str
    reason: str | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    selection: Mapping[str, object] = field(default_factory=dict)


class Preview(NamedTuple):
    """What a change would do now: the ids of the jobs that it would change, the first three of them, the SQL that found
    them, the change with a selection that no longer depends on the time, and how many more jobs its selection means, by
    the reason why it leaves them alone: their state, or `unchanged`."""

    ids: list[int]
    examples: list[dict[str, Any]]
    statement: str
    change: Change
    left_alone: dict[str, int]


class Batch(NamedTuple):
    """What one transaction did: how many jobs it changed, why it left each other one (a word of change_jobs_v1), the
    audit row of the whole change (None: it has changed nothing so far), the transaction's number, and how many of the
    jobs it has not tried: the last ones."""

    changed: int
    refused: dict[int, str]
    audit: int | None
    transaction: str
    rest: int = 0


def preview(calls: Calls, change: Change, limit: int | None = None) -> Preview:
    """Find the jobs that a change would change, at most `limit`. This changes nothing."""
    ids, examples, selection, statement, left_alone = calls.rows(
        "select_jobs_v1", change.action, _json(change.values), _json(change.selection), limit
    )[0]
    if "payload" in selection:  # with every digit that was given
        selection["payload"] = change.selection["payload"]
    return Preview(ids, examples, statement, replace(change, selection=selection), left_alone)


def change_batch(calls: Calls, change: Change, ids: Sequence[int], audit: int | None = None) -> Batch:
    """Change the first of these jobs, as many as fit into one transaction. The ids ascend. `audit` is the audit row of
    the batches before."""
    changed, refused, audit, transaction, rest = calls.rows(
        "change_batch_v1",
        change.action,
        list(ids),
        _json(change.values),
        _json(change.selection),
        change.reason,
        change.actor,
        audit,
    )[0]
    return Batch(changed, {int(job): why for job, why in refused.items()}, audit, transaction, len(rest))


def _json(value: Mapping[str, object]) -> str:
    return json_text(dict(value))
