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
    """Drop old days from the history of jobs that ended.

    \b
    Example:
      shithubd-worker history drop --dry-run
    """


@group.command()
@with_database
@within(CHANGE_SECONDS, answer=math.inf)
@click.option("--dry-run", is_flag=True, help="Print the days that would be dropped, and drop none.")
@json_option
def drop(shared: Shared, *, dry_run: bool, as_json: bool) -> int:
    """Drop the days of the history whose time is over: 7 or 90 days, by retention class.

    Each class has a partition a day, and the command drops whole partitions. It blocks no worker. You cannot undo it.

    Only the owner of the tables can do this: a member of shithub_migrate (`migrate --roles`). shithub-history.timer
    calls it every day. Workers whose login owns the tables need no timer: they do it, too.

    \b
    Exit codes:
      0    the days are dropped, or no day is over
      75   put off, because a reader uses the history: run it again later
      77   the login does not own the tables
      78   PgBouncer in transaction mode is in between: connect to the server

    \b
    Examples:
      shithubd-worker history drop --dry-run
      runuser -u shithub-admin -- shithubd-worker history drop
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
