"""jobs: list, show, and the commands that change jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli import ramping
from shithubd_worker.cli.choosing import ID, job_line, selection_options, selection_words
from shithubd_worker.cli.common import Shared, completed, json_option, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.explain import explain
from shithubd_worker.cli.job_actions import ACTIONS, command
from shithubd_worker.cli.screen import each_in_json, emit, field, json_word, line, say, stack
from shithubd_worker.errors import EXIT_OK, NoSuchJob
from shithubd_worker.model import LISTED
from shithubd_worker.plain import to_the_second

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

PAGE = 50
MOST_AT_ONCE = 1000
_COLOURS = {"failed": "red", "paused": "yellow"}


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
@selection_options(LISTED)
@click.option("--after", type=ID, metavar="ID", help="Only ids above this one: the last id of the page before.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    metavar="NUMBER",
    help=f"At most this many: the lowest ids.  [default: {PAGE}]",
)
@click.option("--all", "everything", is_flag=True, help="All of them, in place of --limit: page by page, as they come.")
@json_option
def list_jobs(
    shared: Shared,
    where: dict[str, object],
    after: int | None,
    limit: int | None,
    *,
    everything: bool,
    as_json: bool,
) -> int:
    """List jobs that wait, run or have failed.

    They come in the order of their ids. A line has the id, the state, the time from which the job may run, the
    attempts, the kind and the last error. A finished job is in the history: `jobs show ID` finds it there. This changes
    nothing.

    --state takes a state: queued, processing, paused or failed. Three more words mean a part of the jobs that wait:

    \b
      ready      queued, due and not held: a worker that knows the kind takes it
      scheduled  queued, and not due yet
      held       paused; or queued, while its kind or the fleet is held

    If there are more jobs, stderr has the command for the next page. Its --after is the last id of this page. While
    jobs come and go, no page repeats a job. A job that is in the state all the time is on exactly one page.

    With --json it prints an array. If that has as many jobs as --limit says, there may be another page: give the `id`
    of the last job to --after.

    \b
    Examples:
      shithubd-worker jobs list
      shithubd-worker jobs list --state failed --kind webhook.deliver
      shithubd-worker jobs list --state ready --after 50
      shithubd-worker jobs list --state held --all --json
    """
    if everything and limit is not None:
        raise click.UsageError("give --limit or --all, not both")
    pages = _pages(shared.operations(), where, after, MOST_AT_ONCE if everything else limit or PAGE)
    found, more = next(pages)
    with each_in_json() if as_json else nullcontext(_say) as tell:
        for job in found:
            tell(job)
        for others, _ in pages if everything else ():
            for job in others:
                tell(job)
    if not found and not as_json:
        line("no such jobs")
    elif more and not everything:
        words = [*selection_words(where), *([] if limit is None else ["--limit", str(limit)])]
        words += ["--json"] if as_json else []
        say(f"more: {shared.command('jobs list', *words, '--after', str(found[-1]['id']))}")
    return EXIT_OK


def _pages(
    operations: Operations, where: dict[str, object], after: int | None, size: int
) -> Iterator[tuple[list[dict[str, Any]], bool]]:
    """The jobs in pages, and of each page: are there more?"""
    more = True
    while more:
        found = operations.jobs(where, size + 1, after)
        more = len(found) > size
        yield found[:size], more
        after = found[size - 1]["id"] if more else None


def _say(job: dict[str, Any]) -> None:
    line(job_line(job), colour=_COLOURS.get(job["state"]))


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
    told(found)
    return EXIT_OK


def told(found: dict[str, Any]) -> None:
    """A job and its history, on the screen."""
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


jobs.add_command(explain)
for action in ACTIONS:
    jobs.add_command(command(action))

COMMANDS = (jobs,)
