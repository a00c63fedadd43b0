"""workers list, unlock, sweep: who works, and the jobs of those that do not any more."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli.common import (
    GroupWithDefault,
    Shared,
    completed,
    dry_run_option,
    json_option,
    reason_option,
    with_database,
)
from shithubd_worker.cli.deadline import CHANGE_SECONDS, LOOK_SECONDS, within
from shithubd_worker.cli.rehearsal import literal, rolled_back, say_sql
from shithubd_worker.cli.screen import emit, folded, line
from shithubd_worker.errors import EXIT_OK, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_KINDS = 50  # of one worker, on the screen
MOST_JOBS = 20
EXAMPLES = 3
LONGEST_LINE = 120


@click.group(cls=GroupWithDefault, default="list", no_args_is_help=False)
def workers() -> None:
    """List the workers, or take jobs back from dead ones.

    `workers` is short for `workers list`.

    \b
    Examples:
      shithubd-worker workers
      shithubd-worker workers unlock web3:4711 --reason "web3 burned down"
      shithubd-worker workers sweep --dry-run
    """


@workers.command("list")
@with_database
@within(LOOK_SECONDS)
@json_option
def list_workers(shared: Shared, *, as_json: bool) -> int:
    """List the workers, and what each of them runs.

    The list also has the time since each worker's last heartbeat, its uuid and its kinds. A dead worker stays in the
    list until its leases are returned. The command changes nothing.

    \b
    Examples:
      shithubd-worker workers list
      shithubd-worker workers --json | jq -r '.[] | select(.silent) | .leased_by'
    """
    found = shared.operations().workers()
    if as_json:
        emit(found)
        return EXIT_OK
    if not found:
        line("no workers: none runs, and none has left a lease behind")
    from shithubd_worker.cli import shown

    shown.workers(found)
    for worker in found:
        more = len(worker["kinds"]) - MOST_KINDS
        kinds = ", ".join(worker["kinds"][:MOST_KINDS]) or "nothing"
        kinds += f", and {more:,} more" if more > 0 else ""
        folded(f"{worker['leased_by']}  uuid {worker['id']}  handles {kinds}")
    return EXIT_OK


@workers.command()
@with_database
@within(CHANGE_SECONDS)
@click.argument("names", nargs=-1, required=True, metavar="WORKER...", shell_complete=completed("worker"))
@click.option(
    "--accept-second-run",
    is_flag=True,
    help="Unlock a worker even if it lives. It may go on with the effects of its job beside the next worker. Needs"
    " --reason.",
)
@reason_option
@dry_run_option
@json_option
def unlock(
    shared: Shared,
    names: tuple[str, ...],
    reason: str | None,
    *,
    accept_second_run: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Take all jobs back from workers that are gone.

    WORKER is the HOST:PID or the uuid of a worker, as `workers` shows them. You need not wait until its leases expire.
    The jobs go back into the queue, and lose no attempt. But the crash of their worker counts: at the third crash the
    job fails. If the worker held several jobs, each of them runs alone next time. The worker leaves the list.

    While one of the workers sends heartbeats, the command refuses, and changes nothing. A worker that lives after all
    is fenced off: it can settle these jobs no more.

    A pid is used again. If a HOST:PID means several workers and one of them lives, give the uuid of the dead one. For a
    name that no worker has, the command says so and exits with 0. You cannot undo it.

    --dry-run runs the same statement, and then rolls it back.

    \b
    Exit codes:
      0    all jobs of these workers are back, or there was none
      5    a worker lives; or --accept-second-run has no --reason; or a job stays
           leased: somebody has locked it, or the database refuses

    \b
    Examples:
      shithubd-worker workers unlock web3:4711 --reason "web3 burned down"
      shithubd-worker workers unlock web3:4711 web3:4712 --dry-run
      shithubd-worker workers unlock web3:4711 --accept-second-run --reason hung
    """
    from psycopg.errors import ObjectInUse

    from shithubd_worker.admin import workers as gone

    if accept_second_run and not reason:
        raise Refused("unlocking a worker that may live needs a --reason")
    operations = shared.operations()
    try:
        with rolled_back(operations) if dry_run else contextlib.nullcontext():
            done = gone.unlock(operations, names, reason, operations.actor, accept_second_run=accept_second_run)
    except ObjectInUse as error:
        raise Refused(*_still_there(str(error.diag.message_primary))) from None
    if as_json:
        emit({"dry_run": dry_run, **done._asdict()})
    else:
        who = ", ".join(sorted({worker["leased_by"] for worker in done.workers}))
        _tell(done.returned, f"of {who}" if who else "", dry_run=dry_run)
        for name in done.unknown:
            line(f"no worker is called {name}, and no lease is left of it")
        if dry_run:
            words = ", ".join(map(literal, names))
            more = ", accept_second_run => true" if accept_second_run else ""
            say_sql(f"force_unlock_workers(ARRAY[{words}]{more})", operations.schema)
    if done.left_over:
        raise Refused(
            f"{done.left_over} job(s) of these workers stay leased: somebody has locked them, or the database refuses"
            " to return them. They return when their leases expire"
        )
    return EXIT_OK


@workers.command()
@with_database
@within(CHANGE_SECONDS)
@reason_option
@dry_run_option
@json_option
def sweep(shared: Shared, reason: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Take expired leases back, now.

    Each worker does this every 2 s between its jobs. Use the command if all workers are busy with long jobs, or none
    runs. The jobs go back into the queue, and lose no attempt. The crash of their worker counts: at the third crash the
    job fails.

    A silent worker whose leases have not expired yet may still run its job. So the command leaves its jobs, and says
    who has them. If you know that the worker is gone: `workers unlock`.

    If nothing has expired, the command says so and exits with 0. It also removes workers from the list that were silent
    for a day. The clock of this machine counts, too: no lease is taken that has not expired by it. You cannot undo it.

    --dry-run runs the same statements, and then rolls them back.

    \b
    Examples:
      shithubd-worker workers sweep --dry-run
      shithubd-worker workers sweep --reason "all workers run long jobs"
    """
    from shithubd_worker.admin import workers as gone

    operations = shared.operations()
    returned: list[dict[str, Any]] = []
    unexpired: list[dict[str, Any]] = []
    with rolled_back(operations) if dry_run else contextlib.nullcontext():
        for swept in gone.sweep(operations, reason, operations.actor):
            returned += swept.returned
            unexpired = swept.unexpired
    if as_json:
        emit({"dry_run": dry_run, "returned": returned, "unexpired": unexpired})
        return EXIT_OK
    _tell(returned, "whose lease had expired", dry_run=dry_run)
    for owner in unexpired:
        line(
            f"{owner['leased_by']} is silent, and {owner['leases']} lease(s) of it end within {owner['seconds']} s."
            f" If it is gone: {shared.command('workers', 'unlock', owner['worker'] or owner['leased_by'])}"
        )
    if dry_run:
        say_sql("sweep_leases_v1()", operations.schema)
    return EXIT_OK


COMMANDS = (workers,)


def _tell(returned: Sequence[dict[str, Any]], which: str, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    most = EXAMPLES if dry_run else MOST_JOBS
    for job in returned[:most]:
        became = f"{would}queued again" if job["state"] == "queued" else f"{would}failed: {job['last_error']}"
        line(f"job {job['id']} ({job['kind']}) {became}", longest=LONGEST_LINE)
    if len(returned) > most:
        line(f"... and {len(returned) - most:,} more")
    failed = sum(job["state"] == "failed" for job in returned)
    how_many = f"{len(returned):,} job(s) {which}".rstrip()
    line(f"{how_many} {would}returned" + (f", {failed:,} of them failed" if failed else ""))


def _still_there(said: str) -> list[str]:
    return [
        said,
        "stop the worker first: `systemctl stop` on its host returns its jobs. If it only seems to live, add"
        " --accept-second-run --reason TEXT",
    ]
