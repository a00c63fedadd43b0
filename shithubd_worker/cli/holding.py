"""What the commands that set a hold share: options, and the message whether the hold was set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli.common import Shared, moment
from shithubd_worker.cli.screen import say
from shithubd_worker.errors import Refused, TimedOut

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

hold_reason_option = click.option(
    "--reason", metavar="TEXT", help="Why you do it. The audit record keeps it, and status shows it beside the hold."
)
wait_option = click.option(
    "--wait",
    is_flag=True,
    help="Also wait until the running jobs have ended. Without --timeout this has no limit.",
)
until_option = click.option(
    "--until",
    metavar="TIME|DURATION",
    help="End the hold at this time, or after this duration: 2026-11-22T18:00:00Z (UTC if it names no zone), or 2h."
    " The database's clock counts.  [default: the hold has no end]",
)


def until_moment(operations: Operations, text: str | None) -> datetime | None:
    """--until, by the database's clock."""
    if text is None:
        return None
    when = moment(text)
    now = operations.now()
    when = now + when if isinstance(when, timedelta) else when
    if when <= now:
        raise Refused(
            f"--until {text} lies in the past: the database's clock says {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        )
    return when


@contextmanager
def saying_if_held(operations: Operations, what: str = "hold") -> Iterator[None]:
    """Put this around the change itself: if it gives up, its message says whether a hold (or `what`) was set. If the
    server didn't confirm the cancel, or after an interrupt, nobody knows: the COMMIT may already have been sent."""
    not_known = f"it is not known whether the {what} was set: see `shithubd-worker status`"
    try:
        yield
    except TimedOut as error:
        error.args = (*error.args, f"no {what} was set" if operations.opened else not_known)
        raise
    except KeyboardInterrupt:
        say(not_known)
        raise


def unless_locked(shared: Shared, ask: Callable[[], Any], what: str) -> Any:
    """The database's answer. If a lock keeps it from answering soon, None and a message. A check for typing errors must
    not keep a hold from being set."""
    try:
        with shared.deadline.briefly():
            return ask()
    except TimedOut as error:
        say(f"{what} is not checked: {shared.deadline.blocker or error.args[0]}")
        return None


def known_kind(shared: Shared, operations: Operations, kind: str) -> bool:
    """Does anybody know the kind? If that can't be seen now, it counts as known."""
    return unless_locked(shared, lambda: operations.known_kind(kind), f"the name of kind {kind}") is not False
