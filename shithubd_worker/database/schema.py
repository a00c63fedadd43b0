"""The database's schema: its SQL files, its migrations, and the comparison of versions."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg
from psycopg import sql

from shithubd_worker import client
from shithubd_worker.database import granting, inventory, rights, routines
from shithubd_worker.errors import Refused, SchemaMismatch
from shithubd_worker.host import shipped
from shithubd_worker.timing import MIGRATION_LOCK_SECONDS


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file. It is `breaking` if its first line says contract: older workers can't work with its result."""

    version: int
    name: str
    breaking: bool
    text: str


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations that this release knows, in order."""
    found = []
    for path in sorted((shipped.SQL / "migrations").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        match = re.match(r"-- (expand|contract)\n", text)
        if not match:
            raise SchemaMismatch(f"{path}: the first line must be -- expand or -- contract")
        found.append(Migration(int(path.name[:4]), path.stem, match[1] == "contract", text))
    return tuple(found)


@cache
def function_files() -> tuple[Path, ...]:
    """One file for each function, in a folder of its subject. Their order doesn't matter: `migrate` loads them with
    check_function_bodies off, so a body may call functions that come later."""
    return tuple(sorted((shipped.SQL / "functions").glob("*/*.sql"), key=lambda path: path.name))


@cache
def functions() -> str:
    """All functions in one text."""
    return "\n".join(path.read_text(encoding="utf-8") for path in function_files())


@cache
def function_names() -> tuple[str, ...]:
    """The functions that this release calls. After a release, the arguments and the meaning of a function never change;
    a change makes a new function, `_v2`. So where all of them exist this release can work, even if another release made
    them."""
    return tuple(path.stem for path in function_files())


@cache
def functions_digest(schema: str = "public") -> str:
    """A digest of all functions, as they are in this schema. `migrate` replaces the functions of a database that has
    another digest. The functions know the name of their schema, so a schema that was renamed has another digest."""
    return hashlib.sha256(f"{schema}\n{functions()}".encode()).hexdigest()[:16]


def texts(connection: psycopg.Connection, schema: str) -> dict[str, str]:
    """The text of each function of this release, in this schema."""
    return {path.stem: of_schema(connection, path.read_text(encoding="utf-8"), schema) for path in function_files()}


def newest_version() -> int:
    """The schema version that this release brings."""
    return migrations()[-1].version


@dataclass(frozen=True, slots=True)
class Found:
    """What a database contains. `version` is 0 if there is nothing of ours."""

    version: int
    functions: str


def parts(version: int) -> list[inventory.Part]:
    """The tables, views and indexes of a schema at this version."""
    return inventory.parts((each.version, each.text) for each in migrations() if each.version <= version)


def find(connection: psycopg.Connection, schema: str) -> Found:
    """Look at a database. Raises SchemaMismatch for a table `jobs` that isn't ours, and for a part of our tables."""
    if not inventory.marked(connection, schema):
        if _relation(connection, schema, "jobs") is not None:
            inventory.refuse_foreign(connection, schema, parts(newest_version()), function_names())
        return Found(0, "")
    row = connection.execute(
        sql.SQL("SELECT version, functions FROM {}").format(sql.Identifier(schema, inventory.MARKER))
    ).fetchone()
    if row is None:
        raise SchemaMismatch(f"schema {schema!r} is half-migrated. worker_schema is empty: restore it from a backup")
    if lost := inventory.missing(connection, schema, parts(row[0])):
        raise inventory.incomplete(connection, schema, lost)
    return Found(row[0], row[1])


def check(connection: psycopg.Connection, schema: str) -> Found:
    """What the database contains, if this release can work with it. Else raises SchemaMismatch, which says what to
    do."""
    found = find(connection, schema)
    if found.version == 0:
        where = client.no_queue(connection, schema)
        name_it = "name it with --schema, or " if ", but " in where else ""
        raise SchemaMismatch(f"{where}: {name_it}run `shithubd-worker migrate`")
    if found.version > newest_version():
        raise SchemaMismatch(
            f"the database is at schema version {found.version}, this release knows {newest_version()}:"
            " install the newer release"
        )
    if found.version < newest_version():
        raise SchemaMismatch(
            f"the database is at schema version {found.version}, this release needs {newest_version()}:"
            " run `shithubd-worker migrate`"
        )
    if found.functions != functions_digest(schema):
        if missing := routines.missing(connection, schema, function_names()):
            raise SchemaMismatch(
                f"the database lacks functions of this release ({', '.join(missing)}): run `shithubd-worker migrate`"
            )
        if _made_elsewhere(connection, schema):
            raise SchemaMismatch(client.made_elsewhere(schema))
    return found


def migrate(connection: psycopg.Connection, schema: str, *, roles: bool = False, dry_run: bool = False) -> list[str]:
    """Bring a database up to date in one transaction. Returns the names of what was applied ([] if nothing).

    Two migrations at once wait for each other. Creates the schema if it is missing, but never the database. `roles`:
    also make the roles, and give them their rights. Once the queue belongs to shithub_owner, each migration brings the
    rights up to date. Raises SchemaMismatch if the database is newer than this release, and Refused if strangers may
    create in the schema.
    """
    for _ in range(2):
        try:
            return _migrate(connection, schema, roles=roles, dry_run=dry_run)
        except (
            psycopg.errors.UniqueViolation,
            psycopg.errors.DuplicateFunction,
            psycopg.errors.DuplicateObject,
            psycopg.errors.DuplicateSchema,
            psycopg.errors.DuplicateTable,
        ):
            # Two migrations of an empty database have nothing to lock. One waited for the first object of the other,
            # and now it exists.
            pass
    return _migrate(connection, schema, roles=roles, dry_run=dry_run)


def _check_encoding(connection: psycopg.Connection) -> None:
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise SchemaMismatch(
            f"database {connection.info.dbname!r} is encoded in {encoding}: the queue needs UTF8, or some errors and"
            " payloads could not be stored. Make one with: createdb --encoding=UTF8 --template=template0 NAME"
        )


def _migrate(connection: psycopg.Connection, schema: str, *, roles: bool, dry_run: bool) -> list[str]:
    applied: list[str] = []
    _check_encoding(connection)
    with connection.transaction():
        # Strangers may have created objects in our schema or in public, so no name is looked up there until that is
        # checked.
        connection.execute("SET LOCAL search_path TO pg_catalog, pg_temp")
        # Of two migrations one waits for the other, but a dry run waits only briefly.
        connection.execute(f"SET LOCAL lock_timeout = '{1 if dry_run else 0}s'".encode())
        if not inventory.marked(connection, schema):
            inventory.refuse_foreign(connection, schema, parts(newest_version()), function_names())
        if roles:
            applied += granting.make_roles(connection, schema)
            dropped = routines.dropped(each.text for each in migrations())
            applied += granting.hand_over(connection, schema, (*function_names(), *dropped))
        shared = rights.become_owner(connection, schema, roles=roles)
        exists = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s"
        if connection.execute(exists, (schema,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        routines.refuse_strangers(connection, schema, function_names())
        if _relation(connection, schema, inventory.MARKER) is not None:
            # The lock of a row, not an advisory lock, which anybody can take.
            marker = sql.Identifier(schema, inventory.MARKER)
            connection.execute(sql.SQL("SELECT FROM {} FOR UPDATE").format(marker))
        # Other sessions queue behind a lock for which this waits, and the fleet must not wait for a transaction that
        # stays open. When the time is over, nothing has changed.
        connection.execute(f"SET LOCAL lock_timeout = '{1 if dry_run else MIGRATION_LOCK_SECONDS}s'".encode())
        found = find(connection, schema)
        if found.version > newest_version():
            raise SchemaMismatch(
                f"the database is at schema version {found.version}, this release brings {newest_version()}:"
                " migrate with the newer release"
            )
        standing = routines.named(connection, schema, function_names()) if found.version else []
        routines.refuse(schema, [each for each in standing if not each.own])
        # Every function keeps this path (SET search_path FROM CURRENT), so no session can redirect its names. Functions
        # with the owner's rights, and those that they call, name our objects with the schema and search pg_catalog
        # first.
        connection.execute(sql.SQL("SET LOCAL search_path TO {}, pg_temp").format(sql.Identifier(schema)))
        new = [migration for migration in migrations() if migration.version > found.version]
        made = [part for part in parts(newest_version()) if part.version > found.version]
        inventory.refuse_foreign(connection, schema, made, ())
        for migration in new:
            _run_file(connection, migration.text)
            applied.append(migration.name)
        # A migration may drop functions that it changes. Somebody may have moved, dropped or replaced one, or made
        # another.
        disturbed = sorted(each.name for each in standing) != sorted(function_names())
        disturbed = disturbed or any(routines.compare(connection, schema, texts(connection, schema)))
        if new or disturbed or found.functions != functions_digest(schema):
            connection.execute("SET LOCAL check_function_bodies = off")  # functions call each other: see function_files
            text = routines.create_new(functions(), function_names(), standing)
            _run_file(connection, of_schema(connection, text, schema))
            applied.append(f"functions {functions_digest(schema)}")
            connection.execute(
                "INSERT INTO worker_schema (version, functions) VALUES (%s, %s) ON CONFLICT (only_row) DO UPDATE"
                " SET version = excluded.version, functions = excluded.functions, applied_at = clock_timestamp()",
                (newest_version(), functions_digest(schema)),
            )
            now = {(each.oid, each.row) for each in routines.named(connection, schema, function_names())}
            routines.refuse(schema, [each for each in standing if (each.oid, each.row) in now])
            routines.record(connection, schema, function_names())
        granting.shut(connection, schema, function_names())
        if shared:
            applied += granting.give(connection, schema)
        connection.execute("SELECT ensure_history_v1()")
        if dry_run:
            raise psycopg.Rollback
    return applied


def of_schema(connection: psycopg.Connection, text: str, schema: str) -> str:
    """Put the schema's name in place of psql's :'schema' and :"schema"."""
    text = text.replace(":'schema'", sql.Literal(schema).as_string(connection))
    return text.replace(':"schema"', sql.Identifier(schema).as_string(connection))


def _run_file(connection: psycopg.Connection, text: str) -> None:
    # psycopg accepts a query that is not a literal only as bytes. Without parameters, a % stays a %.
    try:
        connection.execute(text.encode())
    except psycopg.errors.DependentObjectsStillExist as error:
        found = (error.diag.message_detail or "").splitlines()
        needs = f"{found[0]}, and {len(found) - 1} more" if len(found) > 1 else "".join(found)
        raise Refused(
            f"{error.diag.message_primary} ({needs}): drop what depends on it, migrate, and create it again"
        ) from error


def _made_elsewhere(connection: psycopg.Connection, schema: str) -> bool:
    query = f"SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = %s AND {client.MADE_ELSEWHERE}"
    return connection.execute(query, (schema,)).fetchone() is not None


def _relation(connection: psycopg.Connection, schema: str, name: str) -> object:
    row = connection.execute(
        "SELECT pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s::text, %s::text))", (schema, name)
    ).fetchone()
    return row[0] if row else None
