"""cleanup: removes what is no longer needed."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli.common import Shared, dry_run_option, json_option, reason_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.errors import EXIT_OK, Refused

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

DISCARD, KINDS, QUEUES = "DELETE_PERMAFAILED_JOBS", "GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES"
TASKS = (DISCARD, KINDS, QUEUES)
MOST_NAMES = 20


def _completed(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [task for task in TASKS if task.startswith(incomplete.upper())]


def _tasks(_ctx: click.Context, _parameter: click.Parameter, words: tuple[str, ...]) -> list[str]:
    given = [word.upper() for word in re.split(r"[\s,]+", " ".join(words)) if word]
    if strange := [task for task in given if task not in TASKS]:
        raise click.BadParameter(f"there is no task {strange[0]!r}: there are {', '.join(TASKS)}")
    if not given:
        raise click.BadParameter(f"which tasks? there are {', '.join(TASKS)}")
    return [task for task in TASKS if task in given]  # failed jobs first: afterwards their kinds may be without jobs


@click.command()
@with_database
@within(CHANGE_SECONDS)
@click.argument("tasks", nargs=-1, callback=_tasks, metavar="TASK...", shell_complete=_completed)
@reason_option
@click.option("--yes", is_flag=True, help="Discard the failed jobs without asking. Needed without a terminal.")
@dry_run_option
@json_option
def cleanup(shared: Shared, tasks: list[str], reason: str | None, *, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Remove what is no longer needed.

    The names of the tasks are those of Graphile Worker, in upper or lower case, separated by blanks or commas. All of
    them are safe while workers run:

    \b
      DELETE_PERMAFAILED_JOBS  discards all failed jobs, as `jobs discard` does
      GC_TASK_IDENTIFIERS      removes the counts of kinds that have no job and no
                               worker, so that metrics do not name them any more
      GC_JOB_QUEUES            removes nothing: there are no named queues, so no
                               queue can be left over

    The history keeps discarded jobs for 90 days. To undo it: `audit undo`. The counts of kinds cannot come back.
    GC_TASK_IDENTIFIERS keeps up to 100 kinds if metrics could not leave them out without a false alert.

    \b
    Exit codes:
      0    done, or there was nothing to remove
      2    there is no such task
      5    without a terminal, DELETE_PERMAFAILED_JOBS needs --yes; or some failed
           jobs could not be discarded

    \b
    Examples:
      shithubd-worker cleanup DELETE_PERMAFAILED_JOBS --dry-run
      shithubd-worker cleanup GC_TASK_IDENTIFIERS GC_JOB_QUEUES
      shithubd-worker cleanup DELETE_PERMAFAILED_JOBS --yes --reason "all are old"
    """
    operations = shared.operations()
    does = {DISCARD: _discard, KINDS: _forget, QUEUES: _no_queues}
    done: dict[str, Any] = {}
    for task in tasks:
        done[task] = does[task](operations, reason, yes=yes, dry_run=dry_run, as_json=as_json)
    if as_json:
        emit({"dry_run": dry_run, **done})
    return EXIT_OK


COMMANDS = (cleanup,)


def _no_queues(_operations: Operations, _reason: str | None, *, as_json: bool, **_: bool) -> dict[str, Any]:
    if not as_json:
        line(f"{QUEUES}: there are no named queues, so nothing is there to remove")
    return {"removed": 0}


def _forget(
    operations: Operations, reason: str | None, *, dry_run: bool, as_json: bool, **_: bool
) -> dict[str, Any]:
    with operations.connection.transaction(force_rollback=True) if dry_run else contextlib.nullcontext():
        removed, kept = operations.rows("forget_kinds_v1", reason, operations.actor)[0]
    if not as_json:
        names = ", ".join(removed[:MOST_NAMES]) + (", ..." if len(removed) > MOST_NAMES else "")
        would = "would remove" if dry_run else "removed"
        line(f"{KINDS}: {would} the counts of {len(removed):,} kind(s)" + (f": {names}" if names else ""))
        if kept:
            line(f"{KINDS}: {kept} kind(s) without jobs and workers stay: metrics cannot leave them out")
    return {"removed": removed, "kept": kept}


def _discard(operations: Operations, reason: str | None, *, yes: bool, dry_run: bool, as_json: bool) -> dict[str, Any]:
    from shithubd_worker.admin.change import Change, carry_out, preview

    found = preview(operations, Change("discard", operations.actor, reason, selection={"state": "failed"}))
    if not as_json:
        line(f"{DISCARD}: {len(found.ids):,} failed job(s)")
        for job in found.examples:
            line(f"  {job['id']} {job['kind']}  {(job['last_error'] or '').splitlines()[:1]}")
        line(f"the SQL: {found.statement}")
    if dry_run or not found.ids:
        return {"jobs": len(found.ids), "examples": found.examples, "statement": found.statement}
    if not yes:
        if not sys.stdin.isatty():
            raise Refused("this discards jobs, and nobody can be asked: add --yes")
        if not click.confirm("discard them?", err=True):
            raise Refused("nothing was discarded")
    changed, audit = 0, None
    for batch in carry_out(operations, found.change, found.ids):
        changed += batch.changed
        audit = batch.audit
        say(f"discarded {changed:,} of {len(found.ids):,}")
    return {"jobs": changed, "audit": audit}
