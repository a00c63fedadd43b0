"""--plan: a command that changes jobs writes a plan instead, which `apply` does later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shithubd_worker.cli.choosing import how_many, job_line
from shithubd_worker.cli.common import Duration, Shared
from shithubd_worker.cli.screen import emit, line
from shithubd_worker.errors import EXIT_OK

if TYPE_CHECKING:
    from shithubd_worker.admin.change import Change
    from shithubd_worker.database.operations import Operations

F = TypeVar("F", bound=Callable[..., Any])

EXPIRES_SECONDS = 3600.0
LONGEST_SECONDS = 7 * 86400.0
LONGEST_STATEMENT = 500


def _expires(_ctx: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value <= LONGEST_SECONDS:
        raise click.BadParameter("a plan expires in at most 7d, and not at once")
    return value


def plan_options(function: F) -> F:
    """--plan and --expires, for `plan_for`."""
    function = click.option(
        "--expires",
        type=Duration(),
        callback=_expires,
        metavar="DURATION",
        help="With --plan: `apply` must begin within this time.  [default: 1h; at most 7d]",
    )(function)
    return click.option(
        "--plan", is_flag=True, help="Change nothing, but write a plan: `apply PLAN` does exactly that later."
    )(function)


def plan_for(*, plan: bool, expires: float | None, dry_run: bool) -> float | None:
    """After how many seconds the wanted plan expires. None without --plan."""
    if plan and dry_run:
        raise click.UsageError("give --plan or --dry-run, not both")
    if expires is not None and not plan:
        raise click.UsageError("--expires needs --plan")
    return (expires or EXPIRES_SECONDS) if plan else None


def write_plan(
    shared: Shared, operations: Operations, change: Change, ids: Sequence[int], limit: int | None, **how: Any
) -> int:
    """Write a plan, and show it. `how`: `expires_in` seconds, and `as_json`."""
    from shithubd_worker.admin import plans
    from shithubd_worker.admin.change import DONE
    from shithubd_worker.cli.account import reason

    made = plans.make(operations, change, ids or None, limit=limit, expires_in=how["expires_in"])
    examples = plans.show(operations, made.name)["examples"] if made.name else []
    if how["as_json"]:
        told = made._asdict()
        emit({"plan": told.pop("name"), "action": change.action, **told, "examples": examples})
        return EXIT_OK
    line(f"{how_many(made.jobs)} would be {DONE[change.action]}{', for example:' if examples else ''}")
    for job in examples:
        line(job_line(job))
    for text in plans.few([f"job {job}: {reason(change.action, why).why}" for job, why in made.refused.items()]):
        line(f"not in the plan: {text}")
    line(made.statement, longest=LONGEST_STATEMENT)
    if made.name:
        line(f"to do it before {made.expires_at:%Y-%m-%d %H:%M:%S %Z}: {shared.command('apply', made.name)}")
    else:
        line("no plan is written")
    return EXIT_OK
