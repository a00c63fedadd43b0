"""cleanup: removes what is no longer needed."""

from __future__ import annotations

import contextlib
import io
import json
import re
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.admin.arguments import CLEANUP_TASKS, DISCARD, KINDS, QUEUES
from shithubd_worker.cli.change import How, change_jobs
from shithubd_worker.cli.common import Shared, dry_run_option, json_option, reason_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.job_actions import ANSWER_SECONDS
from shithubd_worker.cli.rehearsal import rolled_back, say_sql
from shithubd_worker.cli.screen import emit, line
from shithubd_worker.errors import EXIT_OK

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

MOST_NAMES = 20


def _completed(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [task for task in CLEANUP_TASKS if task.startswith(incomplete.upper())]


def _tasks(_ctx: click.Context, _parameter: click.Parameter, words: tuple[str, ...]) -> list[str]:
    given = [word.upper() for word in re.split(r"[\s,]+", " ".join(words)) if word]
    if strange := [task for task in given if task not in CLEANUP_TASKS]:
        raise click.BadParameter(f"there is no task {strange[0]!r}: there are {', '.join(CLEANUP_TASKS)}")
    return [
        task for task in CLEANUP_TASKS if task in given
    ]  # failed jobs first: afterwards their kinds may be without jobs


@click.command()
@with_database
@within(CHANGE_SECONDS, answer=ANSWER_SECONDS)
@click.argument("tasks", nargs=-1, callback=_tasks, metavar="TASK...", shell_complete=_completed)
@reason_option
@click.option("--yes", is_flag=True, help="Discard the failed jobs without a question. Scripts need it.")
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

    The command shows the failed jobs before it discards them, and asks. Many go in batches. The history keeps them for
    90 days. To undo it: `audit undo`; the command prints that line. The counts of kinds cannot come back.
    GC_TASK_IDENTIFIERS keeps up to 100 kinds if metrics could not leave them out without a false alert.

    \b
    Exit codes:
      0    done, or there was nothing to remove
      2    there is no such task
      4    --timeout is over, or another session holds a lock; the message says
           how far it came
      5    DELETE_PERMAFAILED_JOBS needs --yes; or a failed job is not discarded
      130  you pressed Ctrl-C; the message says how far it came

    \b
    Examples:
      shithubd-worker cleanup DELETE_PERMAFAILED_JOBS --dry-run
      shithubd-worker cleanup GC_TASK_IDENTIFIERS GC_JOB_QUEUES
      shithubd-worker cleanup DELETE_PERMAFAILED_JOBS --yes --reason "all are old"
    """
    if not tasks:
        raise click.UsageError(f"which tasks? there are {', '.join(CLEANUP_TASKS)}")
    operations = shared.operations()
    done: dict[str, Any] = {}
    code = EXIT_OK
    for task in tasks:
        if task == DISCARD:
            code, done[task] = _discard(shared, operations, reason, How(None, None, yes, dry_run, as_json))
        elif task == KINDS:
            done[task] = _forget(operations, reason, dry_run=dry_run, as_json=as_json)
        else:
            done[task] = {"removed": []}
            if not as_json:
                line(f"{QUEUES}: there are no named queues, so no queue can be left over")
        if code != EXIT_OK:
            break
    if as_json:
        emit({"dry_run": dry_run, **done})
    return code


COMMANDS = (cleanup,)


def _discard(shared: Shared, operations: Operations, reason: str | None, how: How) -> tuple[int, Any]:
    """As `jobs discard --state failed`: its exit code and its JSON, which becomes a part of ours."""
    from shithubd_worker.admin.change import Change

    change = Change("discard", operations.actor, reason, selection={"state": "failed"})
    if not how.as_json:
        line(f"{DISCARD}: all failed jobs")
        return change_jobs(shared, operations, change, (), how), None
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = change_jobs(shared, operations, change, (), how)
    return code, json.loads(said.getvalue())


def _forget(operations: Operations, reason: str | None, *, dry_run: bool, as_json: bool) -> dict[str, Any]:
    with rolled_back(operations) if dry_run else contextlib.nullcontext():
        removed, kept = operations.rows("forget_kinds_v1", reason, operations.actor)[0]
    if not as_json:
        names = ", ".join(removed[:MOST_NAMES]) + (", ..." if len(removed) > MOST_NAMES else "")
        would = "would remove" if dry_run else "removed"
        line(f"{KINDS}: {would} the counts of {len(removed):,} kind(s)" + (f": {names}" if names else ""))
        if kept:
            line(f"{KINDS}: {kept} kind(s) without jobs and workers stay: metrics cannot leave them out")
        if dry_run:
            say_sql("forget_kinds_v1()", operations.schema)
    return {"removed": removed, "kept": kept}
