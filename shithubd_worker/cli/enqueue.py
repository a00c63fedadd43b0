"""enqueue: a job by hand."""

from __future__ import annotations

import sys

import click

from shithubd_worker.cli.common import Duration, Shared, check_kind, completed, due, json_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.screen import emit, line
from shithubd_worker.errors import EXIT_OK


@click.command()
@with_database
@within(CHANGE_SECONDS)
@click.argument("kind", shell_complete=completed("kind"))
@click.argument("payload", default="{}", metavar="[PAYLOAD]")
@click.option(
    "--delay", type=Duration(), metavar="DURATION", help="Run it after this time: 90, 15m, 2h.  [default: now]"
)
@click.option("--run-at", metavar="TIME", help="Run it at this time: 2026-11-22T18:00:00Z (UTC if it names no zone).")
@click.option(
    "--priority",
    type=click.IntRange(-32768, 32767),
    metavar="NUMBER",
    default=0,
    show_default=True,
    help="The order within the kind: a lower number runs first.",
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
    """Add a job to the queue, and print its id.

    PAYLOAD is a JSON object: the handler's arguments by name. Without it the handler gets no arguments; - reads it from
    stdin. A handler gets at most 64 MiB of text. The payload that `jobs show` prints can be pasted here.

    You can name any kind. The job waits until a worker has a handler for it. To undo it before it runs: `jobs discard
    ID`.

    \b
    Examples:
      shithubd-worker enqueue search.reindex '{"repo": "alice/site.git"}'
      shithubd-worker enqueue repo.maintenance '{"repo": "site.git"}' --delay 2h
      shithubd-worker enqueue mail.send --priority 5 --run-at 2026-11-22T18:00:00Z
      echo '{"repo": "site.git"}' | shithubd-worker enqueue search.reindex -
    """
    from shithubd_worker.client import insert

    check_kind(kind)
    text = _payload(payload)
    at = due(run_at, delay)
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
    from shithubd_worker.payload import check_given

    if given == "-":
        given = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    try:
        check_given(given)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="payload") from error
    return given
