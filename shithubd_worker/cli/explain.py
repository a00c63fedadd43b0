"""jobs explain: why a job does not run, and the command that changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shithubd_worker.cli.choosing import ID
from shithubd_worker.cli.common import Shared, completed, json_option, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.screen import emit, folded, line
from shithubd_worker.errors import EXIT_OK, NoSuchJob

if TYPE_CHECKING:
    from shithubd_worker.cli.reasons import Explained

SAID_AT = 13  # the column at which the words of a check begin


@click.command()
@with_database
@within(LOOK_SECONDS)
@click.argument("job", type=ID, metavar="ID", shell_complete=completed("job", ("failed", "paused", "queued")))
@json_option
def explain(shared: Shared, job: int, *, as_json: bool) -> int:
    """Explain why a job does not run.

    The first line says it. Then comes each thing that must be true before a worker takes the job. What is in the way is
    marked with an x: whose it is, since when, and the command that changes it (or SQL, for psql). Once these commands
    are done, a worker takes the job. A job that waits for its turn has its place among the due jobs of its kind, and
    the time until then. The time follows from how fast jobs of the kind ended lately.

    A job that a trigger of your application refuses to let go looks free here: the log of the workers names it. This
    changes nothing.

    \b
    Exit codes:
      1    no job with this id is in the queue or in the history

    \b
    Examples:
      shithubd-worker jobs explain 42
      shithubd-worker jobs explain 42 --json | jq -r '.checks[].changes[]'
    """
    from shithubd_worker.cli import reasons

    found = shared.operations().explain(job)
    if found is None:
        raise NoSuchJob(f"no job {job}: it is not in the queue, and not in the kept history")
    told = reasons.told(found, shared.command)
    if as_json:
        emit(
            found
            | {
                "said": told.verdict,
                "checks": [
                    {**check, "said": each.said, "changes": list(each.changes)}
                    for check, each in zip(found["checks"], told.checks, strict=True)
                ],
            }
        )
        return EXIT_OK
    show(told)
    return EXIT_OK


def show(told: Explained) -> None:
    """Why, in words: the verdict, and each thing that must be true."""
    folded(told.verdict)
    line()
    for each in told.checks:
        folded(f"{'  ' if each.ok else 'x '}{each.name:<{SAID_AT - 2}}{each.said}", SAID_AT)
        for change in each.changes:
            line(f"{'':<{SAID_AT}}to change it: {change}")
