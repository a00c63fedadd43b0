"""enqueue: a job by hand."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta

import click

from shithubd_worker.cli.common import Duration, Shared, check_kind, completed, json_option, moment, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.screen import emit, line
from shithubd_worker.errors import EXIT_OK


@click.command()
@with_database
@within(CHANGE_SECONDS)
@click.argument("kind", shell_complete=completed("kind"))
@click.argument("payload", default="{}", metavar="['{json}' | -]")
@click.option("--delay", type=Duration(), metavar="S", help="Run it so many seconds (or 15m, 2h) from now.")
@click.option("--run-at", metavar="T", help="Run it at this time: ISO 8601, in UTC unless it says otherwise.")
@click.option(
    "--priority",
    type=click.IntRange(-32768, 32767),
    default=0,
    show_default=True,
    help="Lower runs first, within the kind.",
)
@json_option
def enqueue(
    shared: Shared,
    kind: str,
    payload: str,
    delay: float | None,
    run_at: str | None,
    priority: int,
    *,
    as_json: bool,
) -> int:
    """Add a job and print its id. The payload is a JSON object, the handler's arguments; - reads it from stdin.

    A kind that no worker knows is accepted: it waits until one does.

    \b
    Examples:
      shithubd-worker enqueue search.reindex '{"repo": "alice/site.git"}'
      shithubd-worker enqueue repo.maintenance '{"repo": "site.git"}' --delay 2h
      generate-payload | shithubd-worker enqueue webhook.deliver -
    """
    from shithubd_worker.client import insert

    check_kind(kind)
    text = _payload(payload)
    at: datetime | None = None
    if run_at is not None:
        if delay is not None:
            raise click.UsageError("give --delay or --run-at, not both")
        when = moment(run_at)
        if isinstance(when, timedelta):
            raise click.BadParameter(f"{run_at!r} is a duration: give it to --delay", param_hint="--run-at")
        at = when
    operations = shared.operations()
    with operations.connection.transaction():
        job = insert(operations.connection, operations.schema, kind, text, delay or 0.0, at, priority)
    if as_json:
        emit({"id": job})
    else:
        line(job)
    return EXIT_OK


COMMANDS = (enqueue,)


def _payload(given: str) -> str:
    """The payload as JSON text that the database accepts, or a click.BadParameter with one line."""
    from shithubd_worker.client import payload_text

    if given == "-":
        given = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    try:
        members = json.loads(given)
    except RecursionError as error:
        raise click.BadParameter("nested too deeply", param_hint="payload") from error
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="payload") from error
    if not isinstance(members, dict):
        raise click.BadParameter(
            f"a JSON object is needed, the handler's arguments by name, not {type(members).__name__}",
            param_hint="payload",
        )
    try:
        return payload_text(members)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="payload") from error
