"""The rows that a change returns, for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from psycopg import errors, sql

from shithubd_worker.database.operations import Operations, with_payload
from shithubd_worker.errors import Refused
from shithubd_worker.plain import Json

# A payload of more text than a handler can get is cut.
_MOST_BYTES = 64 * 1024 * 1024
# The types of each function's own arguments. Its last two are the reason and the actor. A call names the type of each
# argument, so that it can't mean a function of the application with the same name.
_TYPES = {
    "complete_jobs": ("bigint[]",),
    "permanently_fail_jobs": ("bigint[]", "text"),
    "reschedule_jobs": ("bigint[]", "timestamptz", "integer", "integer", "integer"),
    "retry_jobs": ("bigint[]",),
    "discard_jobs": ("bigint[]",),
    "release_jobs": ("bigint[]", "boolean"),
    "force_unlock_workers": ("text[]", "boolean"),
    "cleanup": ("text[]",),
    "undo_jobs": ("bigint",),
    "apply_plan_v1": ("text", "boolean"),
}


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of `jobs` as a change left it; or as it was before, if the job is gone. docs/sql.md explains each column.

    `payload` is the value of the JSON object. It stays text if Python can't read it. A time outside of the years 1 to
    9999 is the first or the last moment of these years.
    """

    id: int
    kind: str
    payload: Any
    state: str
    priority: int
    run_at: datetime
    attempts: int
    max_attempts: int | None
    crashes: int
    alone: bool
    leased_by: str | None
    leased_at: datetime | None
    lease_expires_at: datetime | None
    last_error: str | None
    created_at: datetime


_NAMES = tuple(field.name for field in fields(JobRow))
_TIMES = ("run_at", "leased_at", "lease_expires_at", "created_at")


@contextmanager
def refusing() -> Iterator[None]:
    """What a function of the queue refuses in words of its own is Refused."""
    try:
        yield
    except (errors.RaiseException, errors.ObjectInUse, errors.InvalidParameterValue) as error:
        raise Refused(error.diag.message_primary or str(error)) from error


def changed(operations: Operations, function: str, *arguments: object) -> list[JobRow]:
    """Call a function that returns rows of jobs."""
    # As JSON, because its times have one form in every session.
    types = (*_TYPES[function], "text", "text")
    query = sql.SQL("SELECT {}(j, {}) FROM {}({}) j").format(
        sql.Identifier(operations.schema, "shown_job_v1"),
        sql.Literal(_MOST_BYTES),
        sql.Identifier(operations.schema, function),
        sql.SQL(", ").join(sql.SQL("{}::{}").format(sql.Placeholder(), sql.SQL(each)) for each in types),
    )
    return [_row(with_payload(shown)) for (shown,) in operations.ask(query, arguments)]


def value_of(payload: object) -> Any:
    """The value of a payload's JSON text. Text that Python can't read stays text."""
    return json.loads(payload.text) if isinstance(payload, Json) else payload


def _row(shown: dict[str, Any]) -> JobRow:
    values = {name: shown[name] for name in _NAMES}
    values["payload"] = value_of(shown["payload"])
    for name in _TIMES:
        values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
    return JobRow(**values)
