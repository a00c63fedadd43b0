"""migrate: the schema, and the roles."""

from __future__ import annotations

import math

import click

from shithubd_worker.cli.common import Shared, json_option, with_database
from shithubd_worker.cli.deadline import within
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.errors import EXIT_OK

# A migration waits this long for another one. All other locks of the database have 2 s (timing.MIGRATION_LOCK_SECONDS).
ANOTHER_MIGRATION_SECONDS = 600.0


@click.command()
@with_database
@within(ANOTHER_MIGRATION_SECONDS, answer=math.inf, waits_for="another migration, and 2 s for other locks")
@click.option("--roles", is_flag=True, help="Also make the roles, or what is missing of them and of their rights.")
@click.option("--dry-run", is_flag=True, help="Print what would be applied, and change nothing.")
@json_option
def migrate(shared: Shared, *, roles: bool, dry_run: bool, as_json: bool) -> int:
    """Make the tables of the queue, or bring them up to date.

    A second run changes nothing. Two runs at once wait for each other. You need no extension and no superuser, only the
    right to create in the schema. The database must exist. You cannot undo a migration: `shithubd-worker runbook
    upgrade` shows the way back.

    With --roles, the tables belong to the role shithub_owner. The first run with --roles needs CREATEROLE. Then give
    each login what it needs: make it a member of one of these roles (docs/rights.md).

    \b
      shithub_migrate    migrate, history drop
      shithub_worker     run
      shithub_enqueue    enqueue
      shithub_operator   drain, pause-kind, jobs, ..., and enqueue
      shithub_metrics    status, workers

    \b
    Exit codes:
      0    the tables are up to date
      4    another migration takes longer than 10 min, or than --timeout
      5    other roles may create in the schema, or own something there; or a
           view of yours depends on a function that changes
      75   another session holds a table for longer than 2 s: run it again
      76   the tables belong to another program, or to a newer release; or the
           database is not encoded in UTF8
      77   the login lacks a right; the message says who has it

    \b
    Examples:
      shithubd-worker migrate
      shithubd-worker migrate --dry-run
      runuser -u postgres -- shithubd-worker migrate --roles
    """
    import psycopg

    from shithubd_worker.database import schema
    from shithubd_worker.database.granting import memberships, who_may_migrate
    from shithubd_worker.errors import RightsMissing

    with shared.connect("shithubd-worker migrate", pooled=True)() as connection:
        try:
            applied = schema.migrate(connection, shared.schema_name, roles=roles, dry_run=dry_run)
        except psycopg.errors.InsufficientPrivilege as error:
            raise RightsMissing(
                f"role {connection.info.user!r} may not migrate schema {shared.schema_name!r}:"
                f" {error.diag.message_primary}; {who_may_migrate(connection, shared.schema_name, roles=roles)}"
            ) from error
        for membership in memberships(connection):
            say(f"warning: {membership}, so it has rights that docs/rights.md does not list")
    if as_json:
        emit(
            {
                "schema": shared.schema_name,
                "version": schema.newest_version(),
                "applied": applied,
                "dry_run": dry_run,
            }
        )
    else:
        for name in applied:
            line(f"{'would apply' if dry_run else 'applied'} {name}")
        would_be = "would be" if dry_run and applied else "is"
        line(f"schema {shared.schema_name} {would_be} at version {schema.newest_version()}")
    return EXIT_OK


COMMANDS = (migrate,)
