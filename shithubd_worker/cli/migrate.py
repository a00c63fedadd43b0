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
@within(ANOTHER_MIGRATION_SECONDS, answer=math.inf)
@click.option("--roles", is_flag=True, help="Make the roles too, or what is missing of them and of their rights.")
@click.option("--dry-run", is_flag=True, help="Say what would be applied, and leave everything as it is.")
@json_option
def migrate(shared: Shared, *, roles: bool, dry_run: bool, as_json: bool) -> int:
    """Bring the database's schema up to date. Doing it twice changes nothing.

    Needs no extension and no superuser, only the right to create in the schema; doesn't create the database.
    Two at once wait for each other.

    With --roles, which wants CREATEROLE the first time, the queue belongs to shithub_owner, and a login is given what
    it needs by making it a member of others (docs/rights.md):

    \b
      shithub_migrate    migrate, history drop
      shithub_worker     run
      shithub_enqueue    enqueue
      shithub_operator   drain, pause-kind, jobs, ..., and enqueue
      shithub_metrics    status, workers

    \b
    Examples:
      shithubd-worker migrate --database-url postgresql://forge@db/shithub
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
