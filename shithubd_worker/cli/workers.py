"""workers list, unlock, sweep: who works, and the jobs of those that do not any more."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from shithubd_worker.cli.common import (
    Duration,
    GroupWithDefault,
    Shared,
    completed,
    dry_run_option,
    json_option,
    not_empty,
    reason_option,
    with_database,
)
from shithubd_worker.cli.deadline import CHANGE_SECONDS, LOOK_SECONDS, within
from shithubd_worker.cli.rehearsal import literal, rolled_back, say_sql
from shithubd_worker.cli.screen import emit, folded, line
from shithubd_worker.errors import EXIT_OK, Refused
from shithubd_worker.plain import lasting

MOST_KINDS = 50  # of one worker, on the screen


@click.group(cls=GroupWithDefault, default="list", no_args_is_help=False)
def workers() -> None:
    """List the workers, or take jobs back from dead ones.

    `workers` is short for `workers list`.

    \b
    Examples:
      shithubd-worker workers
      shithubd-worker workers unlock --host web3 --reason "web3 burned down"
      shithubd-worker workers sweep --stale-after 5m --dry-run
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
@click.argument("names", nargs=-1, metavar="[WORKER...]", shell_complete=completed("worker"))
@click.option(
    "--host",
    metavar="NAME",
    callback=not_empty,
    help="All workers of this host, in place of WORKER.",
    shell_complete=completed("host"),
)
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
    host: str | None,
    reason: str | None,
    *,
    accept_second_run: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Take all jobs back from workers that are gone.

    WORKER is the HOST:PID or the uuid of a worker, as `workers` shows them. --host means all workers of a host. You
    need not wait until their leases expire. The jobs go back into the queue, and lose no attempt. But the crash of
    their worker counts: at the third crash the job fails. If the worker held several jobs, each of them runs alone next
    time. The worker leaves the list.

    While one of the workers sends heartbeats, the command refuses, and changes nothing. A worker that lives after all
    is fenced off: it can settle these jobs no more. A worker that is only cut off may go on with its run for a while.
    The command says with which, and for how long.

    A pid is used again. If a HOST:PID means several workers and one of them lives, give the uuid of the dead one. For a
    name that no worker has, the command says so and exits with 0. You cannot undo it.

    --dry-run runs the same statement, and then rolls it back.

    \b
    Exit codes:
      0    all jobs of these workers are back, or there was none
      2    you gave neither WORKER nor --host, or both
      5    a worker lives; or --accept-second-run has no --reason; or a job stays
           leased: somebody has locked it, or the database refuses

    \b
    Examples:
      shithubd-worker workers unlock web3:4711 --reason "its disk is gone"
      shithubd-worker workers unlock --host web3 --reason "web3 burned down"
      shithubd-worker workers unlock web3:4711 web3:4712 --dry-run
      shithubd-worker workers unlock web3:4711 --accept-second-run --reason hung
    """
    from psycopg.errors import ObjectInUse

    from shithubd_worker.admin import workers as gone
    from shithubd_worker.cli import taken

    if bool(names) == (host is not None):
        raise click.UsageError("give WORKER or --host")
    if accept_second_run and not reason:
        raise Refused("unlocking a worker that may live needs a --reason")
    if host is not None:
        names = (gone.all_of(host),)
    operations = shared.operations()
    try:
        with rolled_back(operations) if dry_run else contextlib.nullcontext():
            done = gone.unlock(operations, names, reason, operations.actor, accept_second_run=accept_second_run)
    except ObjectInUse as error:
        raise Refused(*taken.still_there(str(error.diag.message_primary))) from None
    if as_json:
        emit({"dry_run": dry_run, **done._asdict()})
    else:
        who = ", ".join(sorted({worker["leased_by"] for worker in done.workers}))
        taken.jobs(done.returned, f"of {who}" if who else "", dry_run=dry_run)
        taken.may_go_on(done.workers)
        if host is not None and done.unknown:
            line(taken.no_worker_of(host, operations.workers()))
        else:
            for name in done.unknown:
                line(f"no worker is called {name}, and no lease is left of it")
        if dry_run:
            words = ", ".join(map(literal, names))
            more = ", accept_second_run => true" if accept_second_run else ""
            say_sql(f"force_unlock_workers(ARRAY[{words}]{more})", operations.schema)
    if done.left_over:
        raise Refused(taken.left(done.left_over))
    return EXIT_OK


@workers.command()
@with_database
@within(CHANGE_SECONDS)
@click.option(
    "--stale-after",
    type=Duration(),
    metavar="DURATION",
    help="Also take the jobs of workers that were silent for so long, and have given up: 300, 5m.",
)
@click.option(
    "--recovery-delay",
    type=Duration(),
    default=0.0,
    metavar="DURATION",
    help="The jobs wait so long before they run again: 30s.  [default: 0]",
)
@click.option(
    "--accept-second-run",
    is_flag=True,
    help="With --stale-after: the worker need not have given up. If it is only cut off, it may still run its job beside"
    " the next worker. Needs --reason.",
)
@reason_option
@dry_run_option
@json_option
def sweep(
    shared: Shared,
    stale_after: float | None,
    recovery_delay: float,
    reason: str | None,
    *,
    accept_second_run: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Take jobs back now: expired leases, and those of silent workers.

    Each worker does this between its jobs. Use the command if all workers are busy with long jobs, or none runs. The
    jobs go back into the queue, and lose no attempt. The crash of their worker counts: at the third crash the job
    fails.

    A silent worker is one that the database has not heard for 30 s: it is gone, hangs, or is cut off. It gives up its
    run after its own --sweep-threshold (300 s), or when its lease ends. With --stale-after, the command takes its jobs
    once it was silent for both times. So no job runs twice at the same time. The command names the silent workers that
    have not given up, and says how long that takes. If you know that a worker is gone: `workers unlock`.

    A step of the database's clock ahead looks like a silence. Workers watch that clock; this command cannot. So wait
    for their --sweep-threshold after such a step.

    If there is nothing to take, the command says so and exits with 0. It also removes workers from the list that were
    silent for a day. The clock of this machine counts, too: no lease is taken that has not expired by it. You cannot
    undo it. --dry-run runs the same statements, and then rolls them back. In an incident, use it first.

    \b
    Exit codes:
      0    done, or there was nothing to take
      2    a DURATION is none; --stale-after is 30s to 2d, --recovery-delay is
           at most 2d; or --accept-second-run has no --stale-after
      5    --accept-second-run has no --reason; or a job of a worker that has
           given up stays leased: somebody has locked it, or the database refuses

    \b
    Examples:
      shithubd-worker workers sweep --dry-run
      shithubd-worker workers sweep --stale-after 5m --dry-run
      shithubd-worker workers sweep --stale-after 5m --recovery-delay 30s
      shithubd-worker workers sweep --reason "all workers run long jobs"
    """
    from shithubd_worker.admin import workers as gone
    from shithubd_worker.cli import taken

    if stale_after is not None:
        _check("--stale-after", stale_after, gone.STALE_AFTER)
    _check("--recovery-delay", recovery_delay, gone.DELAY)
    if accept_second_run and stale_after is None:
        raise click.UsageError("--accept-second-run needs --stale-after")
    if accept_second_run and not reason:
        raise Refused("taking jobs from a worker that may live needs a --reason")
    operations = shared.operations()
    returned: list[dict[str, Any]] = []
    silent: dict[str, dict[str, Any]] = {}
    unexpired: list[dict[str, Any]] = []
    with rolled_back(operations) if dry_run else contextlib.nullcontext():
        for swept in gone.sweep(
            operations,
            reason,
            operations.actor,
            stale_after=stale_after,
            delay=recovery_delay,
            accept_second_run=accept_second_run,
        ):
            returned += swept.returned
            silent |= {worker["id"]: worker for worker in swept.workers}
            unexpired = swept.unexpired
    left_over = sum(owner["leases"] for owner in unexpired if owner["worker"] in silent)
    if as_json:
        emit({"dry_run": dry_run, "returned": returned, "workers": [*silent.values()], "unexpired": unexpired})
    else:
        taken.swept(returned, [*silent.values()], recovery_delay, dry_run=dry_run)
        taken.waiting([owner for owner in unexpired if owner["worker"] not in silent], stale_after, shared.command)
        if dry_run:
            say_sql(
                f"sweep_leases_v1({taken.arguments(stale_after, recovery_delay, accept=accept_second_run)})",
                operations.schema,
            )
    if left_over:
        raise Refused(taken.left(left_over))
    return EXIT_OK


COMMANDS = (workers,)


def _check(flag: str, seconds: float, limits: tuple[float, float]) -> None:
    if not limits[0] <= seconds <= limits[1]:
        raise click.BadParameter(f"it must be {lasting(limits[0])} to {lasting(limits[1])}", param_hint=flag)
