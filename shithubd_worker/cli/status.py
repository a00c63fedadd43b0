"""status: what is going on."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli.common import Duration, Shared, check_kind, completed, json_option, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.screen import anew, emit, line, say
from shithubd_worker.cli.waiting import no_figures
from shithubd_worker.errors import EXIT_CHECK_SAYS_NO, EXIT_OK, EXIT_TIMEOUT

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations


@click.command()
@with_database
@within(LOOK_SECONDS)
@click.argument("kind", required=False, shell_complete=completed("kind"))
@click.option(
    "--watch",
    type=Duration(),
    is_flag=False,
    flag_value="2",
    metavar="[DURATION]",
    help="Show it again and again, with this pause: 5, 1m. Ctrl-C or --timeout ends it. A small terminal"
    " gets the beginning.  [default: 2 s]",
)
@click.option("--all-kinds", is_flag=True, help="Name all kinds. Otherwise only the largest and the most urgent ones.")
@click.option(
    "--drained", is_flag=True, help="Print only what is running. Exit with 0 if that is nothing, else with 3."
)
@json_option
def status(
    shared: Shared, kind: str | None, watch: float | None, *, all_kinds: bool, drained: bool, as_json: bool
) -> int:
    """Show the jobs, the holds and the workers.

    The command shows how many jobs of each kind are in each state, what runs where since when, and who set which hold
    and why. The first line is the summary: "running 1, held 499". To confirm a drain, look for "running 0", or use
    --drained.

    A worker leases jobs ahead, and runs one at a time. "running 1 of 500 leased" means: one worker has leased 500 jobs,
    and runs at most one of them. If the jobs take less than a second, nobody knows which one runs. So "running" may be
    too high, but it is never too low. It is 0 only if nothing is leased.

    A second table shows the jobs that ran before and will run again. It says how many they are, when the next one is
    due, and why that one failed last (the first line).

    If there are more than 50 kinds, the command names the largest and the most urgent ones, and sums up the others.
    KIND shows one kind in the table, --all-kinds shows all. Leased jobs are always counted exactly. For other jobs,
    counting stops at 100,000 for each kind and priority, and earlier in a very long queue. So the command stays quick.
    A figure with a + is a lower bound, and --json names it in "capped". The command changes nothing.

    \b
    Exit codes:
      0    shown; with --drained, nothing is running
      3    --drained: something is running
      4    --timeout is over, with --watch too; or another session holds a lock
      130  you pressed Ctrl-C

    \b
    Examples:
      shithubd-worker status
      shithubd-worker status --all-kinds --json
      shithubd-worker status search.reindex --watch
      shithubd-worker status --drained && systemctl restart postgresql
    """
    if kind is not None:
        check_kind(kind)
        if all_kinds or drained:
            raise click.UsageError("KIND can't be combined with --all-kinds or --drained")
    if watch is None or drained:
        found = _found(shared.operations(), kind, all_kinds=all_kinds)
        return _say_drained(found, as_json=as_json) if drained else _say(found, kind, as_json=as_json)
    operations: Operations | None = None
    seen_at = time.monotonic()
    while not shared.deadline.over:
        try:
            operations = operations or shared.operations()
            found = _found(operations, kind, all_kinds=all_kinds)
        except Exception as error:  # noqa: BLE001 (no_figures raises what doesn't pass)
            operations = None
            say(no_figures(time.monotonic() - seen_at, error))
        else:
            seen_at = time.monotonic()
            with contextlib.nullcontext() if as_json else anew():
                _say(found, kind, as_json=as_json)
        time.sleep(watch)
    return EXIT_TIMEOUT


COMMANDS = (status,)


def _found(operations: Operations, kind: str | None, *, all_kinds: bool) -> dict[str, Any]:
    found = operations.status()
    if kind is not None or (all_kinds and found["more_kinds"]):
        found |= {"kinds": operations.kinds(kind), "more_kinds": None}
    return found


def _say(found: dict[str, Any], kind: str | None, *, as_json: bool) -> int:
    if as_json:
        emit(found)
    else:
        from shithubd_worker.cli import shown

        shown.status(found, kind)
    return EXIT_OK


def _say_drained(found: dict[str, Any], *, as_json: bool) -> int:
    from shithubd_worker.cli import shown

    drained = not found["leased"]
    if as_json:
        running = [lease for lease in found["leases"] if lease["runs"] is not False]
        emit({"drained": drained, "running": running, "leased": found["leased"]})
    else:
        line("drained: nothing is running" if drained else shown.summary(found))
        shown.leases(found)
    return EXIT_OK if drained else EXIT_CHECK_SAYS_NO
