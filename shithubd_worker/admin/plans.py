"""Plans: previews that bind.

The database keeps a plan, and how far it is done. So nobody can forge one. After an interruption the next `apply`
goes on with the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from shithubd_worker.admin.change import Calls, Change
from shithubd_worker.admin.work import AGAIN_SECONDS, AWAY_SECONDS, rest
from shithubd_worker.database.failures import DatabaseError, lost, refused_in_words
from shithubd_worker.errors import Refused, ShithubdError
from shithubd_worker.plain import json_text

# How long a plan waits for jobs that other sessions have locked.
LOCKED_SECONDS = 5.0
NAMED = 10  # so many jobs are named
ALREADY = "unchanged"  # a job that was already as the plan wants it

Plan = dict[str, Any]  # a row of show_plans_v1


class Planned(NamedTuple):
    """What plan_jobs_v1 returns: name None if no job would be changed; `refused`: why other ids are not in the plan."""

    name: str | None
    jobs: int
    expires_at: datetime | None
    statement: str
    refused: dict[int, str]


class Left(NamedTuple):
    """A job that a plan leaves as it is, and why. `done`: it was left already."""

    id: int
    why: str
    done: bool

    @property
    def already(self) -> bool:
        """Was the job already as the plan wants it?"""
        return self.why == ALREADY


def make(
    calls: Calls, change: Change, ids: Sequence[int] | None, *, limit: int | None = None, expires_in: float = 3600.0
) -> Planned:
    """Write a plan for these jobs, or for all that the selection means. It changes no job."""
    name, jobs, expires_at, statement, refused = calls.rows(
        "plan_jobs_v1",
        change.action,
        None if ids is None else list(ids),
        json_text(dict(change.selection)),
        json_text(dict(change.values)),
        limit,
        timedelta(seconds=expires_in),
        change.reason,
        change.actor,
    )[0]
    return Planned(name, jobs, expires_at, statement, {int(job): why for job, why in (refused or {}).items()})


def kept(calls: Calls) -> list[Plan]:
    """All plans that are kept, newest first."""
    return [plan for (plan,) in calls.rows("show_plans_v1", None)]


def show(calls: Calls, name: str) -> Plan:
    """One plan. Raises ShithubdError if there is none."""
    for (plan,) in calls.rows("show_plans_v1", name):
        return dict(plan)
    raise ShithubdError(f"there is no plan {name}: `shithubd-worker plans` lists the plans")


def to_apply(calls: Calls, name: str) -> Plan:
    """A plan that can be applied, or the rest of it. Raises Refused if it was applied already, or expired."""
    plan = show(calls, name)
    _refusing(calls, "open_plan_v1", name)
    return plan


def left(calls: Calls, name: str) -> list[Left]:
    """The jobs that a plan did not change, or would not change now."""
    return [Left(*row) for row in calls.rows("plan_changes_v1", name)]


def few(lines: list[str]) -> list[str]:
    """The first lines, and how many more there are."""
    return lines if len(lines) <= NAMED else [*lines[:NAMED], f"and {len(lines) - NAMED:,} more: --json has all"]


def carry_out(calls: Calls, plan: Plan, actor: str, reason: str | None, *, partial: bool) -> Iterator[int]:
    """Do a plan, or the rest of it. Yields after each transaction how many of its chunks are done. Raises Refused if a
    job is no longer as it was, unless partial; or if somebody else applies the plan at the same time."""
    done = plan["done"]
    while done < plan["chunks"]:
        began = time.monotonic()
        try:
            _chunk(calls, plan["name"], done + 1, actor, reason, partial=partial)
            done += 1
        except DatabaseError as error:
            if not lost(error):
                raise
            done = _done_after(error, calls, plan["name"])
        yield done
        if done < plan["chunks"]:
            rest(time.monotonic() - began)


def _chunk(calls: Calls, name: str, number: int, actor: str, reason: str | None, *, partial: bool) -> None:
    """One transaction. Others may have locked some of its jobs: then it tries again for a while, and does nothing so
    far."""
    until = time.monotonic() + LOCKED_SECONDS
    while True:
        [(applied, _, refused, _)] = _refusing(calls, "apply_batch_v1", name, number, False, reason, actor)
        if applied:
            return
        if "locked" not in refused.values() or time.monotonic() > until:
            break
        time.sleep(AGAIN_SECONDS)
    if not partial:
        against = [f"job {job}: {why}" for job, why in refused.items() if why != ALREADY]
        raise Refused(f"plan {name} stops before jobs that changed, or that are in use: {'; '.join(few(against))}")
    _refusing(calls, "apply_batch_v1", name, number, True, reason, actor)


def _done_after(error: DatabaseError, calls: Calls, name: str) -> int:
    """How many chunks are done, after the connection broke."""
    until = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < until:
        time.sleep(AGAIN_SECONDS)
        try:
            return int(show(calls, name)["done"])
        except DatabaseError as another:
            if not lost(another):
                raise error from another
    raise error


def _refusing(calls: Calls, function: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Call a function. What it refuses in words of its own is Refused."""
    try:
        return calls.rows(function, *arguments)
    except DatabaseError as error:
        if (said := refused_in_words(error)) is None:
            raise
        raise Refused(said) from error
