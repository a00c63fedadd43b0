"""pause-kind: stop one kind, with certainty."""

from __future__ import annotations

import click

from shithubd_worker.cli import ramping
from shithubd_worker.cli.certainty import see_through
from shithubd_worker.cli.common import Shared, check_kind, completed, json_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.holding import (
    hold_reason_option,
    known_kind,
    saying_if_held,
    unless_locked,
    until_moment,
    until_option,
    wait_option,
)
from shithubd_worker.cli.resume_kind import resume_kind_line
from shithubd_worker.cli.screen import meanwhile
from shithubd_worker.errors import Refused
from shithubd_worker.model import Scope


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
    `status` counts them as held. A second pause of the kind changes the first one. If the kind is being resumed in
    steps, the pause ends that, and holds everything.

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
    if not (force and reason) and not known_kind(shared, operations, kind):
        if not force:
            raise Refused(
                f"no job, history or worker knows kind {kind!r}: check its name (shithubd-worker status),"
                " or pause it anyway with --force --reason TEXT"
            )
        raise Refused(f"pausing the unknown kind {kind!r} needs a --reason")
    before = unless_locked(shared, lambda: operations.kind_hold(kind), f"whether kind {kind} has a ramp")
    with saying_if_held(operations):
        hold = operations.pause_kind(kind, reason, until_moment(operations, until))
    if before and before["ramp"]:
        meanwhile(as_json=as_json)(f"the ramp of {kind} has ended; it was: {ramping.now(before['ramp'])}")
    return see_through(
        shared, operations, Scope("kind", kind), hold, wait=wait, as_json=as_json, undo=resume_kind_line(shared, kind)
    )


COMMANDS = (pause_kind,)
