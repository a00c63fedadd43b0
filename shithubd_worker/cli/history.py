"""history drop: the daily work of the owner of the history and of the audit record."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from shithubd_worker.cli.common import Shared, json_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.screen import emit, line
from shithubd_worker.cli.settings import option
from shithubd_worker.errors import EXIT_OK, LACKS, ConfigError, DatabaseUnavailable, RightsMissing, TimedOut
from shithubd_worker.settings.config import AUDIT_DAYS, UNDO_DAYS

if TYPE_CHECKING:
    from shithubd_worker.database.history import Pruned
    from shithubd_worker.settings.table import Setting


@click.group("history", no_args_is_help=True)
def group() -> None:
    """Drop old days of the history, and old audit rows.

    \b
    Example:
      shithubd-worker history drop --dry-run
    """


@group.command()
@with_database
@within(CHANGE_SECONDS, answer=math.inf)
@click.option("--dry-run", is_flag=True, help="Print what would be dropped, and drop nothing.")
@option("audit_days", AUDIT_DAYS)
@option("undo_days", UNDO_DAYS)
@json_option
def drop(shared: Shared, audit_days: str | None, undo_days: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Drop the days and the audit rows whose time is over.

    The retention class says how long: 7 or 90 days. Each class has a partition a day, and the command drops whole
    partitions. It blocks no worker. You cannot undo it.

    The audit record keeps its rows for --audit-days. It keeps how the jobs were before a change for --undo-days: after
    that, `audit undo` cannot take the change back.

    Only the owner of the tables can do this: a member of shithub_migrate (`migrate --roles`). shithub-history.timer
    calls it every day. Workers whose login owns the tables drop the days of the history, too. They leave the audit
    record to this command.

    \b
    Exit codes:
      0    all of it is dropped, or nothing is over
      4    --timeout is over; what is dropped stays so: run it again
      75   put off, because a reader uses the history: run it again later
      77   the login does not own the tables
      78   PgBouncer in transaction mode is in between: connect to the server

    \b
    Examples:
      shithubd-worker history drop --dry-run
      shithubd-worker history drop --audit-days 1000 --undo-days 30
      runuser -u shithub-admin -- shithubd-worker history drop
    """
    from shithubd_worker.database import history, rights

    kept = history.Kept(_days(AUDIT_DAYS, audit_days), _days(UNDO_DAYS, undo_days))
    operations = shared.operations(as_owner=True)
    days: list[str] = []
    if dry_run:
        days = [partition for _, partition, _ in history.expired(operations)]
        pruned = history.would_prune(operations, kept)
    else:
        with rights.in_pg_catalog(operations.connection):
            owns = rights.owns(operations.connection, operations.schema)
        if not owns:
            raise RightsMissing(f"{LACKS}: {operations.connection.info.user!r} doesn't own the history")
        days, put_off = history.drop(operations, f"history drop of {operations.actor}")
        pruned = history.Pruned(0, 0)
        for pruned in history.prune(operations, kept):
            if shared.deadline.over:
                raise TimedOut(f"--timeout is over; dropped: {_told(pruned)}")
        if put_off:
            raise DatabaseUnavailable(f"put off: {put_off}; dropped before: {', '.join(days) or 'nothing'}")
    if as_json:
        emit({"dropped": days, "audit_rows": pruned.rows, "undo_values": pruned.values, "dry_run": dry_run})
        return EXIT_OK
    does = "would drop" if dry_run else "dropped"
    for day in days:
        line(f"{does} {day}")
    if not days:
        line("no day of the history is over")
    if pruned.rows or pruned.values:
        line(f"{does} {_told(pruned)}")
    return EXIT_OK


COMMANDS = (group,)


def _days(row: Setting, given: str | None) -> int:
    try:
        days: int = row.read(given)
    except ValueError as error:
        raise ConfigError(f"{row.spelled}: {error}") from None
    return days


def _told(pruned: Pruned) -> str:
    return f"{pruned.rows:,} rows of the audit record, and how the jobs were before {pruned.values:,} more changes"
