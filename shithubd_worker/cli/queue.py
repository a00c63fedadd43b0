"""migrate, enqueue and search: the commands that put something into the database, and look something up in it."""

from __future__ import annotations

import json
import math
import sys
from datetime import datetime, timedelta

import click

from shithubd_worker.cli.common import (
    Duration,
    Shared,
    completed,
    json_option,
    moment,
    with_database,
)
from shithubd_worker.cli.deadline import CHANGE_SECONDS, LOOK_SECONDS, within
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.errors import EXIT_OK

LONGEST_LINE = 60
# A migration waits for another one; all other locks, in the database itself, for 2 s (timing.MIGRATION_LOCK_SECONDS).
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
            say(f"warning: {membership}, and so has rights that docs/rights.md doesn't know of")
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
    from shithubd_worker.registry import check_kind

    try:
        check_kind(kind)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="KIND") from error
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


@click.command()
@with_database
@within(LOOK_SECONDS)
@click.argument("text")
@click.option("--repo", metavar="PATH", help="Only in this repository.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many files.")
@json_option
def search(shared: Shared, text: str, repo: str | None, limit: int, *, as_json: bool) -> int:
    """Search the code that search.reindex has indexed: words, "a phrase", -not, or.

    \b
    Example:
      shithubd-worker search 'lease token' --repo alice/site.git
    """
    from dataclasses import asdict

    from shithubd_worker.handlers.search_query import search as look_up

    operations = shared.operations()
    with operations.connection.transaction():
        hits = look_up(operations.connection, operations.schema, text, repo=repo, limit=limit)
    if as_json:
        emit([asdict(hit) for hit in hits])
        return EXIT_OK
    for hit in hits:
        where = f"{hit.repo}:{hit.path}" + (f":{hit.line}" if hit.line else "")
        line(f"{where}: {hit.text[:LONGEST_LINE]}" if hit.text else where)
    if not hits:
        say(f"nothing found for {text!r}")
    return EXIT_OK


COMMANDS = (migrate, enqueue, search)


def _payload(given: str) -> str:
    """The payload as JSON text that the database takes, or a click.BadParameter with one line."""
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
