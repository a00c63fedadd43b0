"""drain, resume, pause-kind, resume-kind: stop and start work, for sure."""

from __future__ import annotations

import time
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shithubd_worker.cli.common import (
    Duration,
    Shared,
    completed,
    json_option,
    reason_option,
    until_moment,
    with_database,
)
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.errors import EXIT_DETACHED, EXIT_OK, EXIT_TIMEOUT, Refused

if TYPE_CHECKING:
    from shithubd_worker.operations import HoldRow, Operations, Scope

F = TypeVar("F", bound=Callable[..., Any])

_TELL_EVERY = 100_000
_SKIPPED = "the database left them as they are and says nothing: a trigger on jobs skips them"


def _scope_options(function: F) -> F:
    for flag, text in (
        ("--worker", "Only this worker: its <host>:<pid>, or its uuid."),
        ("--unit", "Only the workers of this systemd unit, on all hosts; .service may be left out."),
        ("--host", "Only the workers of this host."),
    ):
        field = {"--worker": "leased_by", "--unit": "unit", "--host": "host"}[flag]
        function = click.option(flag, metavar="NAME", help=text, shell_complete=completed(field))(function)
    return function


def _wait_options(function: F) -> F:
    function = click.option(
        "--timeout",
        type=Duration(),
        metavar="S",
        help="Give up waiting after so many seconds: exit 4, and the hold stays.",
    )(function)
    return click.option("--wait", is_flag=True, help="Wait until nothing of it is running either.")(function)


_until_option = click.option("--until", metavar="T", help="End the hold by itself at this time, or after 30m, 2h, 1d.")


@click.command()
@with_database
@_scope_options
@reason_option
@_until_option
@click.option("--force", is_flag=True, help="Drain a host or a unit of which no worker is known.")
@_wait_options
@json_option
def drain(
    shared: Shared,
    host: str | None,
    unit: str | None,
    worker: str | None,
    reason: str | None,
    until: str | None,
    *,
    force: bool,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Stop leasing: the fleet, or one host, unit or worker. When it returns, nothing of it starts any more.

    Running jobs are finished (--wait waits for them). Workers stay up, held; queued jobs stay queued; the hold
    survives restarts of workers and of the database, until `resume`. A host or a unit of which no worker is known is
    refused, with the names that are like it (exit 5).

    \b
    Examples:
      shithubd-worker drain --wait --timeout 5m --reason "kernel update"
      shithubd-worker drain --host web1 --wait
    """
    operations = shared.operations()
    scope = _scope(operations, host, unit, worker)
    if not force:
        _refuse_unknown(operations, scope)
    hold = operations.drain(scope, reason, until_moment(operations, until))
    named = () if scope.scope == "fleet" else (f"--{scope.scope}", scope.target)
    undo = shared.command("resume", *named)
    return _see_through(operations, scope, hold, wait=wait, timeout=timeout, as_json=as_json, undo=undo)


@click.command()
@with_database
@_scope_options
@reason_option
@json_option
def resume(
    shared: Shared,
    host: str | None,
    unit: str | None,
    worker: str | None,
    reason: str | None,
    *,
    as_json: bool,
) -> int:
    """End a drain; without a scope, all drains. Idle workers lease at once. Pauses of kinds stay: see resume-kind.

    \b
    Example:
      shithubd-worker resume
    """
    operations = shared.operations()
    scope = _scope(operations, host, unit, worker) if host or unit or worker else None
    ended = operations.resume(scope, reason)
    if as_json:
        emit({"ended": [_told(hold) for hold in ended]})
        return EXIT_OK
    for hold in ended:
        why = f": {hold.reason}" if hold.reason else ""
        line(f"resumed {_name(hold)}, held by {hold.actor}{why}")
    if not ended:
        line(f"nothing to resume: no drain of {scope}" if scope else "nothing to resume: no drain stands")
    return EXIT_OK


@click.command("pause-kind")
@with_database
@click.argument("kind", shell_complete=completed("kind"))
@reason_option
@_until_option
@click.option("--force", is_flag=True, help="Pause a kind that nobody has seen yet; needs --reason.")
@_wait_options
@json_option
def pause_kind(
    shared: Shared,
    kind: str,
    reason: str | None,
    until: str | None,
    *,
    force: bool,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Stop one kind: its jobs of now, and those enqueued, retried or due later. Other kinds go on.

    Once it says so, which takes a moment, nothing of the kind starts any more; running jobs are finished (--wait waits
    for them). Then the waiting jobs are marked paused, the next to run first; later ones stay queued, and status counts
    them as held.

    \b
    Examples:
      shithubd-worker pause-kind search.reindex --wait --reason "schema work"
      shithubd-worker pause-kind webhook.deliver --until 2h
    """
    from shithubd_worker.operations import Scope
    from shithubd_worker.registry import check_kind

    try:
        check_kind(kind)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="KIND") from error
    operations = shared.operations()
    if not operations.known_kind(kind):
        if not force:
            raise Refused(
                f"no job, history or worker knows kind {kind!r}: check its name (shithubd-worker status),"
                " or pause it all the same with --force --reason TEXT"
            )
        if not reason:
            raise Refused(f"pausing the unknown kind {kind!r} needs a --reason")
    hold = operations.pause_kind(kind, reason, until_moment(operations, until))
    return _see_through(
        operations,
        Scope("kind", kind),
        hold,
        wait=wait,
        timeout=timeout,
        as_json=as_json,
        undo=_resume_kind(shared, kind),
    )


@click.command("resume-kind")
@with_database
@click.argument("kind", shell_complete=completed("kind"))
@reason_option
@json_option
def resume_kind(shared: Shared, kind: str, reason: str | None, *, as_json: bool) -> int:
    """End the pause of a kind, whoever set it, and put its paused jobs back in the queue, those paused by hand too.

    Exit 5 if the database refuses some of them, for instance by a trigger of yours: these stay paused. Mend what
    refuses them, and run it again.

    \b
    Example:
      shithubd-worker resume-kind search.reindex
    """
    operations = shared.operations()
    tell = say if as_json else line  # what is true already, while the rest goes on; stdout is for data
    hold = operations.resume_kind(kind, reason)
    if hold:
        why = f": {hold.reason}" if hold.reason else ""
        tell(f"resumed {kind}{why}")
        tell(f"it was paused by {hold.actor} at {hold.created:%Y-%m-%d %H:%M:%S%z}")
    else:
        tell(f"{kind} was not paused")
    again = _resume_kind(shared, kind)
    try:
        flipped = _follow("put back", operations.unpause(kind))
    except KeyboardInterrupt:
        say(f"interrupted; some jobs are still marked paused: go on with {again}")
        return EXIT_DETACHED
    if as_json:
        ended = _told(hold) if hold else None
        emit({"kind": kind, "ended": ended, "requeued": flipped, "refused": operations.refused})
    else:
        line(f"{flipped} paused job(s) back in the queue")
    if operations.refused:
        raise Refused(
            f"{operations.refused} job(s) stay paused: {operations.refusal or _SKIPPED}",
            f"mend what refuses them (a trigger or an index of yours on jobs), then again: {again}",
        )
    return EXIT_OK


COMMANDS = (drain, resume, pause_kind, resume_kind)


def _resume_kind(shared: Shared, kind: str) -> str:
    """The command that ends the pause of a kind, whatever its name is."""
    return shared.command("resume-kind", *(("--",) if kind.startswith("-") else ()), kind)


def _scope(operations: Operations, host: str | None, unit: str | None, worker: str | None) -> Scope:
    """The scope that was asked for. A worker's host:pid becomes its uuid: a pid is used again, a uuid never."""
    from shithubd_worker.operations import Scope

    if sum(name is not None for name in (host, unit, worker)) > 1:
        raise click.UsageError("give one of --host, --unit and --worker")
    if host is not None:
        return Scope("host", host)
    if unit is not None:
        return Scope("unit", unit if unit.endswith(".service") else f"{unit}.service")
    if worker is None:
        return Scope("fleet")
    found = [row for row in operations.workers() if worker in (row["id"], row["leased_by"])]
    alive = [row for row in found if not row["silent"]] or found
    if len(alive) != 1:
        what = "no worker" if not alive else f"{len(alive)} workers"
        raise Refused(f"{what} called {worker!r}: see `shithubd-worker workers`, and name one by its uuid")
    return Scope("worker", alive[0]["id"])


def _refuse_unknown(operations: Operations, scope: Scope) -> None:
    """Raises Refused for a host or a unit that no worker is of: most likely it was mistyped."""
    if scope.scope not in ("host", "unit"):
        return
    known = sorted({row[scope.scope] for row in operations.workers() if row[scope.scope]})
    if scope.target not in known:
        near = get_close_matches(scope.target, known, n=3) or known[:5]
        names = f"did you mean {' or '.join(near)}?" if near else f"no {scope.scope} has a worker."
        raise Refused(
            f"no worker of {scope.scope} {scope.target!r} is known: {names} To drain it all the same: --force"
        )


def _see_through(
    operations: Operations,
    scope: Scope,
    hold: HoldRow,
    *,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    undo: str,
) -> int:
    """The barrier, the mirror of a pause, and the wait: what makes a hold certain, told as it goes."""
    began = time.monotonic()
    deadline = None if timeout is None else began + timeout
    tell = say if as_json else line  # what is true already, while the rest goes on; stdout is for data
    mirrored = 0
    try:
        certain = operations.barrier(scope, deadline, say)
        seconds = time.monotonic() - began
        if not certain:
            tell(f"{scope} is held, but after {seconds:.1f} s a lease query is still under way: not certain yet")
        else:
            until = f" until {hold.until:%Y-%m-%d %H:%M:%S%z}" if hold.until else ""
            tell(f"{scope} is held{until}: nothing of it starts any more ({seconds:.1f} s)")
        if hold.scope == "kind":
            mirrored = _follow("marked paused", operations.mirror(hold))
        idle = certain and wait and operations.wait_until_idle(scope, deadline, say)
        leases = operations.leases(scope)
    except KeyboardInterrupt:
        say(f"interrupted; the hold stays: undo with {undo}")
        return EXIT_DETACHED
    timed_out = not certain or (wait and not idle)
    if as_json:
        emit(
            {
                "hold": _told(hold),
                "barrier": certain,
                "drained": not leases,
                "running": leases,
                "paused": mirrored,
                "refused": operations.refused,
                "refusal": (operations.refusal or _SKIPPED) if operations.refused else None,
                "seconds": round(time.monotonic() - began, 3),
                "undo": undo,
            }
        )
        return EXIT_TIMEOUT if timed_out else EXIT_OK
    if hold.scope == "kind":
        line(f"{mirrored} waiting job(s) marked paused; what comes later is held too")
        if operations.refused:
            line(f"{operations.refused} more stay queued, and are held too: {operations.refusal or _SKIPPED}")
    if leases:
        from shithubd_worker.operations import describe

        line(f"{'timeout: ' if timed_out else ''}still running: {len(leases)}")
        for lease in leases[:10]:
            line(f"  {describe(lease)}")
    else:
        line("nothing of it is running" if hold.mode == "pause" else "drained: nothing of it is running")
    line(f"undo: {undo}")
    return EXIT_TIMEOUT if timed_out else EXIT_OK


def _follow(verb: str, totals: Any) -> int:
    """Work through batches, telling of each hundred thousand."""
    total = told = 0
    for total in totals:
        if total - told >= _TELL_EVERY:
            told = total
            say(f"{total:,} {verb} so far")
    return total


def _name(hold: HoldRow) -> str:
    return "the fleet" if hold.scope == "fleet" else f"{hold.scope} {hold.target}"


def _told(hold: HoldRow) -> dict[str, object]:
    return {name: getattr(hold, name) for name in hold.__slots__}
