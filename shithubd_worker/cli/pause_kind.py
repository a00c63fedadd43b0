"""pause-kind, resume-kind: stop and start one kind, with certainty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shithubd_worker.cli.certainty import SKIPPED, as_json_object, follow, see_through
from shithubd_worker.cli.common import Shared, check_kind, completed, json_option, reason_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.holding import (
    hold_reason_option,
    saying_if_held,
    unless_locked,
    until_moment,
    until_option,
    wait_option,
)
from shithubd_worker.cli.screen import emit, line, meanwhile, say
from shithubd_worker.errors import EXIT_DETACHED, EXIT_OK, Refused, TimedOut
from shithubd_worker.model import Scope

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations, RecordedHold


@click.command("pause-kind")
@with_database
@within(CHANGE_SECONDS)
@click.argument("kind", shell_complete=completed("kind"))
@hold_reason_option
@until_option
@click.option("--force", is_flag=True, help="Pause the kind even if no job and no worker knows it. Needs --reason.")
@wait_option
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
    """Stop one kind of job, on all hosts.

    The command sets a hold. As soon as it says so, no job of the kind starts any more, whether it is enqueued, retried
    or due later. Running jobs go on to their end; --wait waits for them. Other kinds go on.

    Then the command marks the waiting jobs as paused, the next to run first. Jobs that come later stay queued, and
    `status` counts them as held. A second pause of the kind changes the first one.

    To undo it: `resume-kind KIND`.

    \b
    Exit codes:
      0    the hold is certain; with --wait, no job of the kind runs
      4    --timeout is over, or another session holds a lock; the message says
           whether the hold is set
      5    nobody knows this kind: `--force --reason TEXT` pauses it all the same;
           or --until lies in the past
      130  you pressed Ctrl-C while it waited; the hold stays

    \b
    Examples:
      shithubd-worker pause-kind search.reindex --wait --reason "schema work"
      shithubd-worker pause-kind webhook.deliver --until 2h
    """
    check_kind(kind)
    operations = shared.operations()
    if not (force and reason) and not _known_kind(shared, operations, kind):
        if not force:
            raise Refused(
                f"no job, history or worker knows kind {kind!r}: check its name (shithubd-worker status),"
                " or pause it anyway with --force --reason TEXT"
            )
        raise Refused(f"pausing the unknown kind {kind!r} needs a --reason")
    with saying_if_held(operations):
        hold = operations.pause_kind(kind, reason, until_moment(operations, until))
    return see_through(
        shared, operations, Scope("kind", kind), hold, wait=wait, as_json=as_json, undo=resume_kind_line(shared, kind)
    )


@click.command("resume-kind")
@with_database
@within(CHANGE_SECONDS)
@click.argument("kind", shell_complete=completed("kind"))
@reason_option
@json_option
def resume_kind(shared: Shared, kind: str, reason: str | None, *, as_json: bool) -> int:
    """End the pause of a kind, and requeue its paused jobs.

    It does not matter who set the pause; the command prints who it was. Jobs that somebody paused by an UPDATE go back
    into the queue, too. To undo it: `pause-kind KIND`.

    \b
    Exit codes:
      0    the pause is over, or there was none
      4    --timeout is over, or another session holds a lock; run it again
      5    the database refused some jobs, for example by a trigger of yours;
           they stay paused: correct the cause, and run it again
      130  you pressed Ctrl-C; some jobs may still be marked as paused: run it
           again

    \b
    Example:
      shithubd-worker resume-kind search.reindex
    """
    operations = shared.operations()
    return put_back(shared, operations, kind, operations.resume_kind(kind, reason), as_json=as_json)


COMMANDS = (pause_kind, resume_kind)


def put_back(shared: Shared, operations: Operations, kind: str, hold: RecordedHold | None, *, as_json: bool) -> int:
    """Requeue the paused jobs of a kind, after its pause was ended: `hold`. None: it was not paused."""
    tell = meanwhile(as_json=as_json)
    if hold:
        why = f": {hold.reason}" if hold.reason else ""
        tell(f"resumed {kind}{why}")
        tell(f"it was paused by {hold.actor} at {hold.created:%Y-%m-%d %H:%M:%S%z}")
    else:
        tell(f"{kind} was not paused")
    again = resume_kind_line(shared, kind)
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
            f"correct what refuses them (a trigger or an index of yours on jobs), then run: {again}",
        )
    return EXIT_OK


def resume_kind_line(shared: Shared, kind: str) -> str:
    """The command that ends the pause of a kind, for any name."""
    return shared.command("resume-kind", *(("--",) if kind.startswith("-") else ()), kind)


def _known_kind(shared: Shared, operations: Operations, kind: str) -> bool:
    """Does anybody know the kind? If that can't be seen now, it counts as known."""
    return unless_locked(shared, lambda: operations.known_kind(kind), f"the name of kind {kind}") is not False
