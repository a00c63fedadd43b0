"""drain, resume: stop and start the work of the fleet, a host, a unit or a worker, with certainty."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shithubd_worker.cli.certainty import as_json_object, see_through
from shithubd_worker.cli.common import Shared, completed, json_option, not_empty, reason_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.holding import (
    hold_reason_option,
    saying_if_held,
    unless_locked,
    until_moment,
    until_option,
    wait_option,
)
from shithubd_worker.cli.screen import emit, line
from shithubd_worker.errors import EXIT_OK, Refused
from shithubd_worker.model import Scope

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations, RecordedHold

F = TypeVar("F", bound=Callable[..., Any])


def _scope_options(function: F) -> F:
    for flag, text in (
        ("--worker", "Only this worker: its HOST:PID or its uuid, as `workers` shows them."),
        ("--unit", "Only the workers of this systemd unit, on all hosts. You can leave out .service."),
        ("--host", "Only the workers of this host."),
    ):
        field = {"--worker": "leased_by", "--unit": "unit", "--host": "host"}[flag]
        option = click.option(flag, metavar="NAME", callback=not_empty, help=text, shell_complete=completed(field))
        function = option(function)
    return function


@click.command()
@with_database
@within(CHANGE_SECONDS)
@_scope_options
@hold_reason_option
@until_option
@click.option("--force", is_flag=True, help="Drain the host or the unit even if no worker of it is known.")
@wait_option
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
    as_json: bool,
) -> int:
    """Stop leasing on the fleet, a host, a unit or a worker.

    The command sets a hold; without --host, --unit and --worker, on the whole fleet. When it returns, no job of that
    scope starts any more. Running jobs go on to their end; --wait waits for them. The workers stay up, and the queued
    jobs stay queued. The hold survives restarts of workers and of the database. The drain of one worker ends with that
    worker.

    To undo it: `resume` with the same --host, --unit or --worker. The command prints that line at its end.

    \b
    Exit codes:
      0    the hold is certain; with --wait, nothing of its scope runs
      4    --timeout is over, or another session holds a lock; the message says
           whether the hold is set
      5    no worker of this host or unit is known, or --worker names none or
           several; or --until lies in the past
      130  you pressed Ctrl-C while it waited; the hold stays

    \b
    Examples:
      shithubd-worker drain --reason "disk is full"
      shithubd-worker drain --wait --timeout 5m --reason "kernel update"
      shithubd-worker drain --host web1 --wait
      shithubd-worker drain --worker web1:4711 --reason "it is slow"
      shithubd-worker drain --unit shithubd-worker@2 --until 2h --force
    """
    operations = shared.operations()
    scope = _scope(operations, host, unit, worker)
    if not force:
        _refuse_unknown(shared, operations, scope)
    with saying_if_held(operations):
        hold = operations.drain(scope, reason, until_moment(operations, until))
    undo = resume_line(shared, scope)
    return see_through(shared, operations, scope, hold, wait=wait, as_json=as_json, undo=undo)


@click.command()
@with_database
@within(CHANGE_SECONDS)
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
    """End a drain, or all drains.

    Without --host, --unit and --worker, the command ends all drains, of hosts, units and workers too. Idle workers
    lease at once. If there is no such drain, the command says so and exits with 0. Pauses of kinds stay; to end one:
    `resume-kind`. To undo it: `drain`.

    \b
    Exit codes:
      0    the drains are over, or there was none
      5    --worker names no worker, or several

    \b
    Examples:
      shithubd-worker resume
      shithubd-worker resume --host web1 --reason "the new disk is in"
    """
    operations = shared.operations()
    named = any(name is not None for name in (host, unit, worker))
    scope = _scope(operations, host, unit, worker) if named else None
    ended = operations.resume(scope, reason)
    tell_ended(ended, as_json=as_json)
    if not ended and not as_json:
        line(f"nothing to resume: no drain of {scope}" if scope else "nothing to resume: no drain stands")
    return EXIT_OK


COMMANDS = (drain, resume)


def tell_ended(ended: list[RecordedHold], *, as_json: bool) -> None:
    """Print the drains that were ended."""
    if as_json:
        emit({"ended": [as_json_object(hold) for hold in ended]})
        return
    for hold in ended:
        why = f": {hold.reason}" if hold.reason else ""
        line(f"resumed {hold.covers}, held by {hold.actor}{why}")


def resume_line(shared: Shared, scope: Scope) -> str:
    """The command that ends the drain of a scope."""
    named = () if scope.scope == "fleet" else (f"--{scope.scope}", scope.target)
    return shared.command("resume", *named)


def _scope(operations: Operations, host: str | None, unit: str | None, worker: str | None) -> Scope:
    from shithubd_worker.admin.scopes import scope_of

    if sum(name is not None for name in (host, unit, worker)) > 1:
        raise click.UsageError("give one of --host, --unit and --worker")
    return scope_of(operations, host, unit, worker)


def _refuse_unknown(shared: Shared, operations: Operations, scope: Scope) -> None:
    """Raises Refused for a host or a unit without any known worker: most likely it was mistyped."""
    if scope.scope not in ("host", "unit"):
        return
    workers = unless_locked(shared, operations.workers, f"the name of {scope}")
    if workers is None:
        return
    known = sorted({row[scope.scope] for row in workers if row[scope.scope]})
    if scope.target not in known:
        near = get_close_matches(scope.target, known, n=3) or known[:5]
        names = f"did you mean {' or '.join(near)}?" if near else f"no {scope.scope} has a worker."
        raise Refused(f"no worker of {scope.scope} {scope.target!r} is known: {names} To drain it anyway, add --force")
