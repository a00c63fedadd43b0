"""jobs: list, show, and the commands that change jobs."""

from __future__ import annotations

import click

from shithubd_worker.cli import ramping
from shithubd_worker.cli.choosing import ID, job_line, selection_options
from shithubd_worker.cli.common import Shared, completed, json_option, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.explain import explain
from shithubd_worker.cli.job_actions import ACTIONS, command
from shithubd_worker.cli.screen import emit, field, json_word, line, say, stack
from shithubd_worker.errors import EXIT_OK, NoSuchJob
from shithubd_worker.model import State
from shithubd_worker.plain import to_the_second


@click.group()
def jobs() -> None:
    """List, show and change jobs: single ones, or many at once.

    \b
    Examples:
      shithubd-worker jobs list --state failed
      shithubd-worker jobs show 42
      shithubd-worker jobs explain 42
      shithubd-worker jobs retry 42 --reason "the disk is free again"
      shithubd-worker jobs retry --kind mail.send --dry-run
    """


@jobs.command("list")
@with_database
@within(LOOK_SECONDS)
@selection_options([state.value for state in State])
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    metavar="NUMBER",
    default=50,
    show_default=True,
    help="At most this many: the lowest ids.",
)
@json_option
def list_jobs(shared: Shared, where: dict[str, object], limit: int, *, as_json: bool) -> int:
    """List jobs that wait, run or have failed.

    They come in the order of their ids. A line has the id, the state, the time from which the job may run, the
    attempts, the kind and the last error. A finished job is in the history: `jobs show ID` finds it there. This changes
    nothing.

    \b
    Examples:
      shithubd-worker jobs list
      shithubd-worker jobs list --state failed --kind webhook.deliver
    """
    found = shared.operations().jobs(where, limit)
    if as_json:
        emit(found)
        return EXIT_OK
    for job in found:
        line(job_line(job))
    if not found:
        line("no such jobs")
    elif len(found) == limit:
        say(f"the first {limit}: more with --limit")
    return EXIT_OK


@jobs.command()
@with_database
@within(LOOK_SECONDS)
@click.argument("job", type=ID, metavar="ID", shell_complete=completed("job"))
@json_option
def show(shared: Shared, job: int, *, as_json: bool) -> int:
    """Show one job, and how each of its leases ended.

    It also finds a finished job that the history keeps. You can paste the payload into `enqueue`. Above 128 KiB, write
    `printf %s` before the payload, and pipe that into `enqueue KIND -`. Above 1 MiB it is cut. This changes nothing.

    \b
    Exit codes:
      1    no job with this id is in the queue or in the history

    \b
    Example:
      shithubd-worker jobs show 42
    """
    found = shared.operations().job(job)
    if found is None:
        raise NoSuchJob(f"no job {job}: it is not in the queue, and not in the kept history")
    if as_json:
        emit(found)
        return EXIT_OK
    if found["payload"] is not None and "payload_cut" not in found:
        found["payload"] = json_word(found["payload"])
    for name, value in found.items():
        if name == "last_error" and value is not None:
            stack(name, value)
        elif name == "hold" and value is not None:
            why = f": {value['reason']}" if value["reason"] else ""
            field(name, f"the kind is paused by {value['actor']} since {to_the_second(value['created'])}{why}")
            for told in ramping.standing(value):
                field("", told)
        elif name != "history" and value is not None:
            field(name, value)
    for row in found["history"]:
        by = f" by {row['leased_by']}" if row["leased_by"] else ""
        error = f": {row['error'].splitlines()[0]}" if row["error"] else ""
        line(f"  {row['finished_at'][:19]} {row['outcome']} (attempt {row['attempts']}){by}{error}")
    return EXIT_OK


jobs.add_command(explain)
for action in ACTIONS:
    jobs.add_command(command(action))

COMMANDS = (jobs,)
