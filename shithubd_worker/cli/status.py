"""status and workers: what is going on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli import needs
from shithubd_worker.cli.common import Duration, Shared, json_option, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.screen import clear, emit, folded, line, say, table
from shithubd_worker.errors import EXIT_CHECK_SAYS_NO, EXIT_OK, EXIT_TIMEOUT, DatabaseUnavailable, TimedOut
from shithubd_worker.model import Scope
from shithubd_worker.plain import lasting

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

MOST_LEASES = 20


@click.command()
@with_database
@within(LOOK_SECONDS)
@click.option(
    "--watch",
    type=Duration(),
    is_flag=False,
    flag_value="2",
    metavar="[DURATION]",
    help="Show it again and again, with this pause: 5, 1m. Ctrl-C or --timeout ends it.  [default: 2 s]",
)
@click.option(
    "--drained", is_flag=True, help="Print only what is running. Exit with 0 if that is nothing, else with 3."
)
@json_option
def status(shared: Shared, watch: float | None, *, drained: bool, as_json: bool) -> int:
    """Show the jobs, the holds and the workers.

    The command shows how many jobs of each kind are in each state, what runs where since when, and who set which hold
    and why. The first line is the summary: "running 1, held 499". To confirm a drain, look for "running 0", or use
    --drained.

    Running jobs are always counted exactly. Of the waiting jobs, counting stops at 100,000 a kind, so that the command
    stays quick. It shows 100,000+ then, and --json names the figure in "capped". The command changes nothing.

    \b
    Exit codes:
      0    shown; with --drained, nothing is running
      3    --drained: something is running
      4    --timeout is over, with --watch too; or another session holds a lock
      130  you pressed Ctrl-C

    \b
    Examples:
      shithubd-worker status
      shithubd-worker status --watch
      shithubd-worker status --drained && systemctl restart postgresql
    """
    if watch is None or drained:
        found = shared.operations().status()
        return _say_drained(found, as_json=as_json) if drained else _say(found, as_json=as_json)
    operations: Operations | None = None
    seen_at = time.monotonic()
    while not shared.deadline.over:
        try:
            operations = operations or shared.operations()
            found = operations.status()
        except Exception as error:  # noqa: BLE001 (_passing raises what doesn't pass)
            operations = None
            say(f"no figures for {lasting(time.monotonic() - seen_at)}: {_passing(error)}")
        else:
            seen_at = time.monotonic()
            if not as_json:
                clear()
            _say(found, as_json=as_json)
        time.sleep(watch)
    return EXIT_TIMEOUT


@click.command()
@with_database
@within(LOOK_SECONDS)
@json_option
def workers(shared: Shared, *, as_json: bool) -> int:
    """List the workers, and what each of them runs.

    The list also has the time since each worker's last heartbeat, its uuid and its kinds. A dead worker stays in the
    list until its leases are returned. The command changes nothing.

    \b
    Examples:
      shithubd-worker workers
      shithubd-worker workers --json | jq -r '.[] | select(.silent) | .leased_by'
    """
    found = shared.operations().workers()
    if as_json:
        emit(found)
        return EXIT_OK
    if not found:
        line("no workers: none runs, and none has left a lease behind")
    _show_workers(found)
    for worker in found:
        kinds = ", ".join(worker["kinds"]) or "nothing"
        folded(f"{worker['leased_by']}  uuid {worker['id']}  handles {kinds}")
    return EXIT_OK


COMMANDS = (status, workers)


def _passing(error: Exception) -> str:
    """Why the database can't answer now. Raises the error again if it isn't one that passes."""
    import psycopg

    from shithubd_worker.database.failures import explained

    told = explained(error) if isinstance(error, psycopg.Error) else error
    if not isinstance(told, (DatabaseUnavailable, TimedOut)):
        raise error
    return str(told.args[0])


def _say(found: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        emit(found)
    else:
        _render(found)
    return EXIT_OK


def _say_drained(found: dict[str, Any], *, as_json: bool) -> int:
    running = found["leases"]
    if as_json:
        emit({"drained": not running, "running": running})
    else:
        line("drained: nothing is running" if not running else _summary(found))
        _show_leases(running)
    return EXIT_OK if not running else EXIT_CHECK_SAYS_NO


def _summary(found: dict[str, Any]) -> str:
    figures = {**found["states"], "held": found["held"], "capped": found["capped"]}
    parts = ", ".join(f"{name} {_figure(figures, name)}" for name in ("queued", "paused", "failed"))
    return f"running {_figure(figures, 'processing')}, held {_figure(figures, 'held')} ({parts})"


def _figure(figures: dict[str, Any], name: str) -> str:
    """A number of jobs. With a + if there are more than were counted."""
    return f"{figures[name]:,}{'+' if name in figures['capped'] else ''}"


def _render(found: dict[str, Any]) -> None:
    line(_summary(found))
    if found["history_days_ready"] < 2:  # noqa: PLR2004 (one day to act)
        line(f"warning: the history is ready for {found['history_days_ready']} day(s) only: run a worker, or migrate")
    drops = found["history_drops"]
    if drops["late"]:
        how = needs.by_admin("shithubd-worker history drop")
        folded(f"warning: {drops['late']} day(s) of the history should have been dropped 2 days ago or earlier: {how}")
    for hold in found["holds"]:
        until = f" until {_time(hold['until'])}" if hold["until"] else ""
        why = f": {hold['reason']}" if hold["reason"] else ""
        folded(f"hold: {hold['mode']} of {Scope(hold['scope'], hold['target'])}{why}")
        folded(f"      by {hold['actor']} since {_time(hold['created'])}{until}")
    _show_kinds(found["kinds"])
    _show_leases(found["leases"])
    _show_workers(found["workers"])
    line()
    if drops["at"]:
        folded(f"old history: dropped {_ago(drops['seconds'])} by {drops['actor']} (login {drops['login']})")
    else:
        line("old history: nobody has dropped a day yet")


def _show_kinds(kinds: list[dict[str, Any]]) -> None:
    rows = []
    for kind in kinds:
        unhandled = kind["queued"] and not kind["workers"]
        cells = [
            kind["kind"],
            *(_figure(kind, name) for name in ("queued", "processing", "paused", "failed", "held")),
            _seconds(kind["oldest_seconds"]),
            "none" if unhandled else str(kind["workers"]),
        ]
        rows.append((cells, "red" if kind["failed"] else "yellow" if kind["held"] or unhandled else None))
    columns = ("kind", "queued", "running", "paused", "failed", "held", "oldest", "workers")
    table(columns, rows, right=range(1, 8))


def _show_leases(leases: list[dict[str, Any]]) -> None:
    rows: list[tuple[list[str], None]] = []
    for lease in leases[:MOST_LEASES]:
        who = (lease["kind"], lease["leased_by"], lease["unit"] or "")
        rows.append(([str(lease["id"]), *who, _seconds(lease["seconds"]), _time(lease["lease_expires_at"])], None))
    if len(leases) > MOST_LEASES:
        rows.append((["...", f"{len(leases) - MOST_LEASES} more"], None))
    table(("running", "kind", "leased by", "unit", "for", "expires"), rows, right=(0, 4))


def _show_workers(workers: list[dict[str, Any]]) -> None:
    rows = []
    for worker in workers:
        runs = f"{worker['job_kind'] or ''} {worker['job_id']}" if worker["job_id"] is not None else ""
        state = "silent" if worker["silent"] else worker["state"]
        cells = [worker["leased_by"], worker["unit"] or "", state, runs, _ago(worker["beat_seconds"])]
        rows.append((cells, "red" if worker["silent"] else None))
    table(("worker", "unit", "state", "runs", "last beat"), rows, right=(4,))


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return lasting(seconds)  # below 0 if it lies in the future


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{lasting(seconds)} ago" if seconds >= 0 else f"{lasting(-seconds)} ahead"


def _time(text: str | None) -> str:
    return "" if text is None else text[:19].replace("T", " ")
