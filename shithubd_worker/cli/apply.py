"""apply, plans: do what a plan says, exactly; and which plans there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli.certainty import follow
from shithubd_worker.cli.choosing import how_many
from shithubd_worker.cli.common import Shared, completed, json_option, reason_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, LOOK_SECONDS, within
from shithubd_worker.cli.job_actions import ANSWER_SECONDS
from shithubd_worker.cli.planning import LONGEST_STATEMENT
from shithubd_worker.cli.screen import emit, field, line, say
from shithubd_worker.errors import EXIT_DETACHED, EXIT_OK, Refused, ShithubdError, TimedOut
from shithubd_worker.plain import to_the_second

if TYPE_CHECKING:
    from shithubd_worker.admin.plans import Left, Plan
    from shithubd_worker.database.operations import Operations


@click.command()
@with_database
@within(CHANGE_SECONDS, answer=ANSWER_SECONDS)
@click.argument("plan", metavar="PLAN", shell_complete=completed("plan"))
@click.option("--partial", is_flag=True, help="Change the jobs that are still as they were, and list the others.")
@click.option("--dry-run", is_flag=True, help="Print what would be done or refused, and change nothing.")
@reason_option
@json_option
def apply(shared: Shared, plan: str, reason: str | None, *, partial: bool, dry_run: bool, as_json: bool) -> int:
    """Do what a plan says, exactly, or refuse.

    `jobs retry --plan` and the other commands that change jobs write a plan. It has the jobs that they found, and how
    each job was. If one of them was changed since, `apply` names it and does nothing. With --partial it changes the
    others. Each plan is applied once, and must begin before it expires.

    Each 500 jobs are a transaction. If one of their jobs was changed at the last moment, `apply` stops before these
    500, and says what is done. After that, or after Ctrl-C, call it again: it goes on with the rest. To undo it, see
    the last line that it prints.

    \b
    Exit codes:
      1    there is no such plan
      5    refused: jobs were changed since, the plan expired, or somebody has
           applied it

    \b
    Examples:
      shithubd-worker apply 12-3f9ac1 --dry-run
      shithubd-worker apply 12-3f9ac1 --partial --reason "agreed with bob"
    """
    from shithubd_worker.admin import plans

    operations = shared.operations()
    found = plans.to_apply(operations, plan)
    left = plans.left(operations, plan)
    if not as_json:
        _show(found)
    if (against := [job for job in left if not (job.done or job.already)]) and not partial:
        if as_json:
            emit(_result(found, left, dry_run=dry_run))
        else:
            _list(against)
        raise _refused(shared, found, len(against))
    if not dry_run:
        try:
            _carry_out(shared, operations, found, reason, partial=partial)
        except KeyboardInterrupt:
            say(f"interrupted: {_so_far(shared, operations, found)}")
            return EXIT_DETACHED
        except Exception as error:
            error.add_note(_so_far(shared, operations, found))
            raise
        found, left = plans.show(operations, plan), plans.left(operations, plan)
    if as_json:
        emit(_result(found, left, dry_run=dry_run))
    else:
        _tell(shared, found, left, dry_run=dry_run)
    return EXIT_OK


@click.command("plans")
@with_database
@within(LOOK_SECONDS)
@json_option
def list_plans(shared: Shared, *, as_json: bool) -> int:
    """List the plans: what they would do, and until when.

    A plan is open, begun, applied or expired. `apply PLAN` does an open one, and goes on with one that has begun. A day
    after its expiry a plan is removed. This changes nothing.

    \b
    Examples:
      shithubd-worker plans
      shithubd-worker plans --json
    """
    from shithubd_worker.admin import plans

    found = plans.kept(shared.operations())
    if as_json:
        emit(found)
        return EXIT_OK
    for plan in found:
        why = f": {plan['reason']}" if plan["reason"] else ""
        until = f"until {to_the_second(plan['expires_at'])} " if plan["state"] == "open" else ""
        what = f"{plan['name']:<12} {plan['state']:<8} {plan['action']} {how_many(plan['jobs'])}"
        line(f"{what} {until}by {plan['actor']}{why}")
    if not found:
        line("no plans")
    return EXIT_OK


COMMANDS = (apply, list_plans)


def _carry_out(shared: Shared, operations: Operations, plan: Plan, reason: str | None, *, partial: bool) -> None:
    from shithubd_worker.admin import plans
    from shithubd_worker.admin.change import DONE

    steps = plans.carry_out(operations, plan, operations.actor, reason, partial=partial)
    for done in follow(f"parts {DONE[plan['action']]}", steps, plan["chunks"]):
        if shared.deadline.over and done < plan["chunks"]:
            raise TimedOut("--timeout is over")


def _so_far(shared: Shared, operations: Operations, plan: Plan) -> str:
    """How far a plan came that did not reach its end, and how to go on. The database knows it."""
    from shithubd_worker.admin import plans
    from shithubd_worker.database.failures import DatabaseError

    name, go_on = plan["name"], f"to go on with the rest: {shared.command('apply', plan['name'])}"
    try:
        plan = plans.show(operations, name)
    except (DatabaseError, ShithubdError):
        return f"the database knows how much of plan {name} is done; {go_on}"
    told = f"{plan['changed']:,} of {how_many(plan['jobs'])} of plan {name} are changed{_audits(plan)}"
    return told if plan["state"] == "applied" else f"{told}; {go_on}"


def _show(plan: Plan) -> None:
    field("plan", plan["name"])
    field("action", f"{plan['action']} {how_many(plan['jobs'])}")
    for name, value in plan["arguments"].items():
        field(name, value)
    field("planned by", f"{plan['actor']} at {to_the_second(plan['at'])}")
    if plan["reason"]:
        field("reason", plan["reason"])
    field("expires", to_the_second(plan["expires_at"]))
    line(plan["statement"], longest=LONGEST_STATEMENT)


def _tell(shared: Shared, plan: Plan, left: list[Left], *, dry_run: bool) -> None:
    if dry_run:
        line(f"it would change {how_many(plan['jobs'] - plan['changed'] - len(left))}")
    else:
        line(f"changed {plan['changed']:,} of {how_many(plan['jobs'])}{_audits(plan)}")
    if already := sum(job.already for job in left):
        line(f"already so: {how_many(already)}")
    _list([job for job in left if not job.already])
    if not dry_run and plan["action"] != "release":
        for audit in plan["audits"]:
            line(f"undo: {shared.command('audit undo', str(audit))}")


def _list(left: list[Left]) -> None:
    from shithubd_worker.admin.plans import few

    for text in few([f"job {job.id}: {job.why}" for job in left]):
        line(text)


def _refused(shared: Shared, plan: Plan, against: int) -> Refused:
    name = plan["name"]
    changed = f"plan {name} is not applied: {against:,} of {how_many(plan['jobs'])} changed since"
    return Refused(f"{changed}; to change the others: {shared.command('apply', name, '--partial')}")


def _result(plan: Plan, left: list[Left], *, dry_run: bool) -> dict[str, Any]:
    return {"dry_run": dry_run, "plan": plan, "left": [job._asdict() for job in left]}


def _audits(plan: Plan) -> str:
    return f" (audit {', '.join(map(str, plan['audits']))})" if plan["audits"] else ""
