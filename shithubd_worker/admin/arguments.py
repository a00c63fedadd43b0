"""The arguments of a Client, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shithubd_worker.admin.change import DONE
from shithubd_worker.model import State, check_kind
from shithubd_worker.options import ATTEMPTS, PRIORITIES, moment_in_utc, seconds_in, whole
from shithubd_worker.plain import json_text

DISCARD, KINDS, QUEUES = "DELETE_PERMAFAILED_JOBS", "GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES"
CLEANUP_TASKS = (DISCARD, KINDS, QUEUES)
LONGEST_PLAN = timedelta(days=7).total_seconds()

_Checks = dict[str, Callable[[Any], object]]


def text(name: str, value: str | None) -> str | None:
    """Text that PostgreSQL can store, or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if value is not None and "\0" in value:
        raise ValueError(f"{name} contains a NUL character, which PostgreSQL can't store")
    try:
        (value or "").encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} contains a lone surrogate, which is not a character") from error
    return value


def name_of(what: str, value: str | None) -> str:
    """Text that isn't empty."""
    if not (found := text(what, value)):
        raise ValueError(f"{what} must not be empty")
    return found


def flag(name: str, value: bool) -> bool:
    """True or False, and no text that says so."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def row_id(what: str, value: int) -> int:
    """The id of a row."""
    return whole(what, value, (-(2**63), 2**63 - 1))


def job_ids(given: Iterable[int]) -> list[int]:
    """The ids of jobs."""
    if isinstance(given, (str, bytes)):
        raise TypeError("job_ids must be numbers, not text")
    if not isinstance(given, Iterable):
        raise TypeError(f"job_ids must be several numbers, not {type(given).__name__}: write [7] for one job")
    return [row_id("a job's id", each) for each in given]


def worker_ids(given: Iterable[str | UUID]) -> list[str]:
    """The names of workers."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError("worker_ids must be several names: write ['web1:4711'] for one worker")
    return [str(each) if isinstance(each, UUID) else name_of("a worker's id", each) for each in given]


def tasks(given: Iterable[str]) -> list[str]:
    """The names of tasks of a cleanup."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"tasks must be several names: write [{DISCARD!r}] for one task")
    for each in (found := list(given)):
        if each not in CLEANUP_TASKS:
            raise ValueError(f"there is no cleanup task {each!r}: there are {', '.join(CLEANUP_TASKS)}")
    return found


def moment(name: str, value: datetime | None) -> datetime | None:
    """A moment in UTC, or None."""
    return None if value is None else moment_in_utc(value, name)


def action(name: str) -> str:
    """The name of an action."""
    if name not in DONE:
        raise ValueError(f"there is no action {name!r}: there are {', '.join(DONE)}")
    return name


def state(value: str, known: Sequence[str] = tuple(State)) -> str:
    """The name of a state."""
    if value not in known:
        raise ValueError(f"there is no state {value!r}: there are {', '.join(known)}")
    return value


def values(of: str, given: Mapping[str, object] | None) -> dict[str, object]:
    """What an action needs, as change_jobs_v1 takes it."""
    return _checked(f"values of {of}", _VALUES.get(of, {}), given or {})


def where(given: Mapping[str, object]) -> dict[str, object]:
    """A selection, as select_jobs_v1 takes it."""
    return _checked("where", _WHERE, given)


def expires_in(value: float | timedelta) -> float:
    """How long a plan can be applied, in seconds."""
    seconds = seconds_in("expires_in", value)
    if not 0 < seconds <= LONGEST_PLAN:
        raise ValueError(f"a plan expires in at most 7 days, not in {seconds:g} s")
    return seconds


def seconds_within(name: str, value: float | timedelta, limits: tuple[float, float]) -> float:
    """A duration in seconds, within its limits."""
    seconds, (least, most) = seconds_in(name, value), limits
    if not least <= seconds <= most:
        raise ValueError(f"{name} must be {least:g} s to {most:g} s, not {seconds:g} s")
    return seconds


def _checked(what: str, checks: _Checks, given: Mapping[str, object]) -> dict[str, object]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} must be a mapping, not {type(given).__name__}")
    for each in given:
        if each not in checks:
            raise ValueError(f"{what}: there is no {each!r}" + (f", only {', '.join(checks)}" if checks else ""))
    return {each: checks[each](value) for each, value in given.items()}


def _kind(value: str) -> str:
    check_kind(value)
    return value


def _payload(value: Mapping[str, object]) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"payload must be a mapping, not {type(value).__name__}")
    try:
        json_text(members := dict(value))
    except TypeError as error:
        raise ValueError(f"payload is not JSON: {error}") from error
    return members


_VALUES: dict[str, _Checks] = {
    "fail": {"error": lambda value: text("error", value)},
    "reschedule": {
        "run_at": lambda value: moment_in_utc(value).isoformat(),
        "priority": lambda value: whole("priority", value, PRIORITIES),
        "attempts": lambda value: whole("attempts", value, (0, ATTEMPTS[1])),
        "max_attempts": lambda value: whole("max_attempts", value, ATTEMPTS),
    },
    "release": {"accept_second_run": lambda value: flag("accept_second_run", value)},
}
_WHERE: _Checks = {
    "kind": _kind,
    "state": state,
    "error": lambda value: name_of("error", value),
    "older_than": lambda value: seconds_in("older_than", value),
    "created_before": lambda value: moment_in_utc(value, "created_before").isoformat(),
    "payload": _payload,
}
