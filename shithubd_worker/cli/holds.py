"""drain, resume, pause-kind, resume-kind: stop and start work, for sure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shithubd_worker.cli.certainty import SKIPPED, as_json_object, follow, see_through
from shithubd_worker.cli.common import (
    Shared,
    completed,
    json_option,
    reason_option,
    until_moment,
    with_database,
)
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.errors import EXIT_DETACHED, EXIT_OK, Refused, TimedOut

if TYPE_CHECKING:
    from shithubd_worker.database.operations import HoldRow, Operations, Scope

F = TypeVar("F", bound=Callable[..., Any])


def _scope_options(function: F) -> F:
    for flag, text in (
        ("--worker", "Only this worker: its <host>:<pid>, or its uuid."),
        ("--unit", "Only the workers of this systemd unit, on all hosts; .service may be left out."),
        ("--host", "Only the workers of this host."),
    ):
        field = {"--worker": "leased_by", "--unit": "unit", "--host": "host"}[flag]
        function = click.option(flag, metavar="NAME", help=text, shell_complete=completed(field))(function)
    return function


_wait_option = click.option(
    "--wait", is_flag=True, help="Wait until nothing of it is running either, as long as it takes without --timeout."
)
_until_option = click.option("--until", metavar="T", help="End the hold by itself at this time, or after 30m, 2h, 1d.")


@click.command()
@with_database
@within(CHANGE_SECONDS)
@_scope_options
@reason_option
@_until_option
@click.option("--force", is_flag=True, help="Drain a host or a unit of which no worker is known.")
@_wait_option
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
        _refuse_unknown(shared, operations, scope)
    with _told_if_held(operations):
        hold = operations.drain(scope, reason, until_moment(operations, until))
    named = () if scope.scope == "fleet" else (f"--{scope.scope}", scope.target)
    undo = shared.command("resume", *named)
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
    """End a drain; without a scope, all drains. Idle workers lease at once. Pauses of kinds stay: see resume-kind.

    \b
    Example:
      shithubd-worker resume
    """
    operations = shared.operations()
    scope = _scope(operations, host, unit, worker) if host or unit or worker else None
    ended = operations.resume(scope, reason)
    if as_json:
        emit({"ended": [as_json_object(hold) for hold in ended]})
        return EXIT_OK
    for hold in ended:
        why = f": {hold.reason}" if hold.reason else ""
        line(f"resumed {_name(hold)}, held by {hold.actor}{why}")
    if not ended:
        line(f"nothing to resume: no drain of {scope}" if scope else "nothing to resume: no drain stands")
    return EXIT_OK


@click.command("pause-kind")
@with_database
@within(CHANGE_SECONDS)
@click.argument("kind", shell_complete=completed("kind"))
@reason_option
@_until_option
@click.option("--force", is_flag=True, help="Pause a kind that nobody has seen yet; needs --reason.")
@_wait_option
@json_option
def pause_kind(
    shared: Shared,
    kind: str,
    reason: str | None,
    until: str | None,
    *,
    force: bool,
    wait: bool,
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
    from shithubd_worker.database.operations import Scope
    from shithubd_worker.registry import check_kind

    try:
        check_kind(kind)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="KIND") from error
    operations = shared.operations()
    if not (force and reason) and not _known_kind(shared, operations, kind):
        if not force:
            raise Refused(
                f"no job, history or worker knows kind {kind!r}: check its name (shithubd-worker status),"
                " or pause it all the same with --force --reason TEXT"
            )
        raise Refused(f"pausing the unknown kind {kind!r} needs a --reason")
    with _told_if_held(operations):
        hold = operations.pause_kind(kind, reason, until_moment(operations, until))
    return see_through(
        shared, operations, Scope("kind", kind), hold, wait=wait, as_json=as_json, undo=_resume_kind(shared, kind)
    )


@click.command("resume-kind")
@with_database
@within(CHANGE_SECONDS)
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
    left = f"some jobs may still be marked paused: go on with {again}"
    flipped = 0
    try:
        for flipped in follow("put back", operations.unpause(kind)):
            if shared.deadline.over:
                raise TimedOut(f"time is over: {flipped} put back so far")
    except KeyboardInterrupt:
        say(f"interrupted; {left}")
        return EXIT_DETACHED
    except TimedOut as error:
        error.args = (*error.args, left)
        raise
    if as_json:
        ended = as_json_object(hold) if hold else None
        emit({"kind": kind, "ended": ended, "requeued": flipped, "refused": operations.refused})
    else:
        line(f"{flipped} paused job(s) back in the queue")
    if operations.refused:
        raise Refused(
            f"{operations.refused} job(s) stay paused: {operations.refusal or SKIPPED}",
            f"mend what refuses them (a trigger or an index of yours on jobs), then again: {again}",
        )
    return EXIT_OK


COMMANDS = (drain, resume, pause_kind, resume_kind)


def _resume_kind(shared: Shared, kind: str) -> str:
    """The command that ends the pause of a kind, whatever its name is."""
    return shared.command("resume-kind", *(("--",) if kind.startswith("-") else ()), kind)


def _scope(operations: Operations, host: str | None, unit: str | None, worker: str | None) -> Scope:
    """The scope that was asked for. A worker's host:pid becomes its uuid: a pid is used again, a uuid never."""
    from shithubd_worker.database.operations import Scope

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


@contextmanager
def _told_if_held(operations: Operations) -> Iterator[None]:
    """Around the change itself: what gives up here says whether a hold was set. Where the server didn't confirm that it
    gave up, and after an interrupt, nobody knows: the COMMIT may have been under way."""
    not_known = "whether the hold was set is not known: see status"
    try:
        yield
    except TimedOut as error:
        error.args = (*error.args, "no hold was set" if operations.opened else not_known)
        raise
    except KeyboardInterrupt:
        say(not_known)
        raise


def _unless_locked(shared: Shared, ask: Callable[[], Any], what: str) -> Any:
    """What the database says; None, and a word about it, if somebody's lock keeps it from saying so at once. What
    guards against a slip of the pen must not keep a hold from being set."""
    try:
        with shared.deadline.briefly():
            return ask()
    except TimedOut as error:
        say(f"{what} is not checked: {shared.deadline.blocker or error.args[0]}")
        return None


def _known_kind(shared: Shared, operations: Operations, kind: str) -> bool:
    """Does anybody know the kind? If that can't be seen now, it counts as known."""
    return _unless_locked(shared, lambda: operations.known_kind(kind), f"the name of kind {kind}") is not False


def _refuse_unknown(shared: Shared, operations: Operations, scope: Scope) -> None:
    """Raises Refused for a host or a unit that no worker is of: most likely it was mistyped."""
    if scope.scope not in ("host", "unit"):
        return
    workers = _unless_locked(shared, operations.workers, f"the name of {scope}")
    if workers is None:
        return
    known = sorted({row[scope.scope] for row in workers if row[scope.scope]})
    if scope.target not in known:
        near = get_close_matches(scope.target, known, n=3) or known[:5]
        names = f"did you mean {' or '.join(near)}?" if near else f"no {scope.scope} has a worker."
        raise Refused(
            f"no worker of {scope.scope} {scope.target!r} is known: {names} To drain it all the same: --force"
        )


def _name(hold: HoldRow) -> str:
    return "the fleet" if hold.scope == "fleet" else f"{hold.scope} {hold.target}"
