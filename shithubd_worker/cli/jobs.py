"""jobs list, show, release, retry, discard: single jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli.common import Shared, completed, json_option, reason_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, LOOK_SECONDS, within
from shithubd_worker.cli.screen import emit, field, json_word, line, say, stack
from shithubd_worker.errors import EXIT_OK, NoSuchJob, Refused, TimedOut
from shithubd_worker.model import State

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

PAGE = 1000
LONGEST_LINE = 80  # the error is cut to fit; `jobs show` shows all of it

_kind_option = click.option("--kind", metavar="KIND", shell_complete=completed("kind"), help="Only jobs of this kind.")
_id_type = click.IntRange(-(2**63), 2**63 - 1)
_ids = click.argument("ids", nargs=-1, type=_id_type, metavar="ID...", shell_complete=completed("job"))
_failed_option = click.option(
    "--failed",
    metavar="KIND",
    shell_complete=completed("kind"),
    help="Take all failed jobs of this kind, instead of ids.",
)


@click.group()
def jobs() -> None:
    """Look at single jobs, and release, retry or discard them.

    \b
    Examples:
      shithubd-worker jobs list --state failed
      shithubd-worker jobs show 42
      shithubd-worker jobs retry 42 --reason "the disk is free again"
    """


@jobs.command("list")
@with_database
@within(LOOK_SECONDS)
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only jobs in this state.")
@_kind_option
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    metavar="NUMBER",
    default=50,
    show_default=True,
    help="At most this many: the lowest ids.",
)
@json_option
def list_jobs(shared: Shared, state: str | None, kind: str | None, limit: int, *, as_json: bool) -> int:
    """List jobs that wait, run or have failed.

    They come in the order of their ids. A line has the id, the state, the time from which the job may run, the
    attempts, the kind and the last error. A finished job is in the history: `jobs show ID` finds it there. This changes
    nothing.

    \b
    Examples:
      shithubd-worker jobs list
      shithubd-worker jobs list --state failed --kind webhook.deliver
    """
    found = shared.operations().jobs(state, kind, limit)
    if as_json:
        emit(found)
        return EXIT_OK
    for job in found:
        error = (job["last_error"] or "").split("\n")[0]
        line(
            f"{job['id']:>8} {job['state']:<10} {job['run_at'][:19]} {job['attempts']:>3} {job['kind']}  {error}",
            longest=LONGEST_LINE,
        )
    if not found:
        line("no such jobs")
    elif len(found) == limit:
        say(f"the first {limit}: more with --limit")
    return EXIT_OK


@jobs.command()
@with_database
@within(LOOK_SECONDS)
@click.argument("job", type=_id_type, metavar="ID", shell_complete=completed("job"))
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
        raise NoSuchJob(_no_such(job))
    if as_json:
        emit(found)
        return EXIT_OK
    if found["payload"] is not None and "payload_cut" not in found:
        found["payload"] = json_word(found["payload"])
    for name, value in found.items():
        if name == "last_error" and value is not None:
            stack(name, value)
        elif name != "history" and value is not None:
            field(name, value)
    for row in found["history"]:
        by = f" by {row['leased_by']}" if row["leased_by"] else ""
        error = f": {row['error'].splitlines()[0]}" if row["error"] else ""
        line(f"  {row['finished_at'][:19]} {row['outcome']} (attempt {row['attempts']}){by}{error}")
    return EXIT_OK


@jobs.command()
@with_database
@within(CHANGE_SECONDS)
@_ids
@click.option(
    "--force",
    is_flag=True,
    help="Release the job even if its worker lives. That worker may go on with the job's effects. Needs --reason.",
)
@reason_option
@json_option
def release(shared: Shared, ids: tuple[int, ...], reason: str | None, *, force: bool, as_json: bool) -> int:
    """Return the jobs of a dead worker to the queue.

    You need not wait until their leases expire. The job can run again at once, and loses no attempt. Its former worker
    is fenced off: it can settle the job no more. While that worker sends heartbeats, the command refuses. If it refuses
    one id, it still tries the others. You cannot undo it.

    \b
    Exit codes:
      0    all are released
      1    there is no job with one of these ids
      5    one of them is not released: it is not running, or its worker lives; or
           --force has no --reason

    \b
    Example:
      shithubd-worker jobs release 42 --reason "web3 burned down"
    """
    if force and not reason:
        raise Refused("releasing a job whose worker may live needs a --reason")
    operations = shared.operations()

    one = _one(operations, "release", reason, {"accept_second_run": force})

    return _each(_given(ids), one, done="released", as_json=as_json)


@jobs.command()
@with_database
@within(CHANGE_SECONDS)
@_ids
@_failed_option
@reason_option
@json_option
def retry(shared: Shared, ids: tuple[int, ...], failed: str | None, reason: str | None, *, as_json: bool) -> int:
    """Retry failed jobs, and run postponed jobs now.

    The jobs go back into the queue. A failed job starts again with its first attempt, and its crashes are forgotten. If
    the command refuses one id, it still tries the others. You cannot undo it.

    \b
    Exit codes:
      0    all are retried, or --failed found none
      1    there is no job with one of these ids
      5    one of them is not retried: it is running or paused

    \b
    Examples:
      shithubd-worker jobs retry 42 43
      shithubd-worker jobs retry --failed webhook.deliver --reason "it is back"
    """
    operations = shared.operations()

    one = _one(operations, "retry", reason, {})

    return _each(_chosen(operations, ids, failed), one, done="retried", as_json=as_json)


@jobs.command()
@with_database
@within(CHANGE_SECONDS)
@_ids
@_failed_option
@reason_option
@json_option
def discard(shared: Shared, ids: tuple[int, ...], failed: str | None, reason: str | None, *, as_json: bool) -> int:
    """Remove jobs that must not run: failed, queued or paused ones.

    The history keeps them for 90 days, and `jobs show` shows the payload. If the command refuses one id, it still tries
    the others. To undo it, enqueue the payload again.

    \b
    Exit codes:
      0    all are discarded, or --failed found none
      1    there is no job with one of these ids
      5    one of them is not discarded: it is running

    \b
    Examples:
      shithubd-worker jobs discard 44 --reason "repository was deleted"
      shithubd-worker jobs discard --failed webhook.deliver
    """
    operations = shared.operations()

    one = _one(operations, "discard", reason, {})

    return _each(_chosen(operations, ids, failed), one, done="discarded", as_json=as_json)


COMMANDS = (jobs,)


def _given(ids: tuple[int, ...]) -> tuple[int, ...]:
    if not ids:
        raise click.UsageError("which jobs? give their ids")
    return ids


def _chosen(operations: Operations, ids: tuple[int, ...], failed: str | None) -> Iterable[int]:
    if failed is None:
        return _given(ids)
    if ids:
        raise click.UsageError("give ids or --failed KIND, not both")
    return _failed_ids(operations, failed)


def _failed_ids(operations: Operations, kind: str) -> Iterator[int]:
    after: int | None = None
    while page := operations.jobs("failed", kind, PAGE, after):
        for job in page:
            yield (after := int(job["id"]))


def _one(operations: Operations, action: str, reason: str | None, values: dict[str, object]) -> Callable[[int], str]:
    from shithubd_worker.admin.change import DONE, Change, change_batch

    change = Change(action, operations.actor, reason, values)

    def one(job: int) -> str:
        return change_batch(operations, change, [job]).refused.get(job, DONE[action])

    return one


def _each(ids: Iterable[int], one: Callable[[int], str], *, done: str, as_json: bool) -> int:
    """Do one thing to each job, report each result, and fail at the end if any job was refused or doesn't exist."""
    from shithubd_worker.database.failures import DatabaseError, forbidden, in_one_line, lost

    results: list[dict[str, Any]] = []
    gave_up: TimedOut | None = None
    for job in ids:
        try:
            result = one(job)
        except TimedOut as error:  # most likely the other jobs would wait for the same lock
            gave_up = error
            results.append({"id": job, "result": error.args[0]})
            break
        except DatabaseError as error:  # one refused job must not keep the others from their turn
            if lost(error) or forbidden(error):
                raise
            result = f"refused by the database: {in_one_line(error)}"
        results.append({"id": job, "result": result})
        if not as_json and results[-1]["result"] == done:
            line(f"job {job} {done}")
    if as_json:
        emit(results)
    elif not results:
        line("no such jobs")
    if gave_up is not None:
        named = f"job {results[-1]['id']} is not {done}, and the jobs after it were not tried: {gave_up.args[0]}"
        raise TimedOut(named, *gave_up.args[1:])
    return _judged(results, done)


def _judged(results: list[dict[str, Any]], done: str) -> int:
    missing = [row["id"] for row in results if row["result"] == "no such job"]
    refused = [_refusal(**row) for row in results if row["result"] not in (done, "no such job")]
    if refused:
        raise Refused(*refused, *map(_no_such, missing))
    if missing:
        raise NoSuchJob(*map(_no_such, missing))
    return EXIT_OK


def _refusal(id: int, result: str) -> str:  # noqa: A002 (as in the JSON)
    hint = ": stop that worker, or add --force --reason TEXT" if result.startswith("alive: ") else ""
    return f"job {id} is {result}{hint}"


def _no_such(job: int) -> str:
    return f"no job {job}: it is not in the queue, and not in the kept history"
