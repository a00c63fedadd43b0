"""history drop: the daily work of the history's owner."""

from __future__ import annotations

import math

import click

from shithubd_worker.cli.common import Shared, json_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.screen import emit, line
from shithubd_worker.errors import EXIT_OK, LACKS, DatabaseUnavailable, RightsMissing


@click.group("history", no_args_is_help=True)
def group() -> None:
    """Look after the history of jobs that ended.

    \b
    Example:
      shithubd-worker history drop
    """


@group.command()
@with_database
@within(CHANGE_SECONDS, answer=math.inf)
@click.option("--dry-run", is_flag=True, help="Say which days would be dropped, and drop none.")
@json_option
def drop(shared: Shared, *, dry_run: bool, as_json: bool) -> int:
    """Drop the days of the history that are over: those of 7 days, and of 90.

    Only the owner of the tables can: a member of shithub_migrate (`migrate --roles`). Workers whose login is the
    owner do it by themselves; for others shithub-history.timer calls this. Blocks no worker; exit 75 if a reader was
    in the way: it goes on the next time.

    It needs a session of its own. PgBouncer in transaction mode gives none (exit 78): name the server itself.

    \b
    Example:
      shithubd-worker history drop --dry-run
    """
    from shithubd_worker.database import history, rights

    operations = shared.operations(as_owner=True)
    days = [partition for _, partition, _ in history.expired(operations)] if dry_run else []
    if not dry_run:
        with rights.in_pg_catalog(operations.connection):
            owns = rights.owns(operations.connection, operations.schema)
        if not owns:
            raise RightsMissing(f"{LACKS}: {operations.connection.info.user!r} doesn't own the history")
        days, put_off = history.drop(operations, f"history drop of {operations.actor}")
        if put_off:
            raise DatabaseUnavailable(f"put off: {put_off}; dropped before: {', '.join(days) or 'nothing'}")
    if as_json:
        emit({"dropped": days, "dry_run": dry_run})
        return EXIT_OK
    for day in days:
        line(f"{'would drop' if dry_run else 'dropped'} {day}")
    if not days:
        line("no day of the history is over")
    return EXIT_OK


COMMANDS = (group,)
