"""Which tables, views and indexes the migrations make, and what of them a schema has: ours, moved, or another's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import LiteralString, NamedTuple

import psycopg

from shithubd_worker.database import routines
from shithubd_worker.errors import SchemaMismatch

MARKER = "worker_schema"
_NAMED = 3  # so many names are enough to see what it is
_STATEMENT = re.compile(r"^(CREATE|DROP) (?:UNIQUE )?(TABLE|VIEW|INDEX) (?:IF (?:NOT )?EXISTS )?(\w+)", re.MULTILINE)


class Part(NamedTuple):
    """One object of the queue. `version` is that of the migration that makes it."""

    name: str
    kind: str
    version: int


def parts(texts: Iterable[tuple[int, str]]) -> list[Part]:
    """What stands after these migrations: each is its version and its text."""
    standing: dict[str, Part] = {}
    for version, text in texts:
        for verb, kind, name in _STATEMENT.findall(text):
            if verb == "CREATE":
                standing[name] = Part(name, kind.lower(), version)
            else:
                standing.pop(name, None)
    return list(standing.values())


def marked(connection: psycopg.Connection, schema: str) -> bool:
    """Has the schema our table worker_schema, or is that another's, or not there?"""
    return bool(
        _column(
            connection,
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid WHERE n.nspname = %s AND c.relname = %s"
            " AND c.relkind = 'r' AND a.attname IN ('only_row', 'version', 'functions') AND NOT a.attisdropped"
            " GROUP BY c.oid HAVING pg_catalog.count(*) = 3::bigint",
            schema,
            MARKER,
        )
    )


def missing(connection: psycopg.Connection, schema: str, ours: Iterable[Part]) -> list[str]:
    """The tables and views that the schema lacks. A lost index stops no work."""
    names = [part.name for part in ours if part.kind != "index"]
    found = _column(
        connection,
        "SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = ANY (%s::name[])",
        schema,
        names,
    )
    return [name for name in names if name not in found]


def incomplete(connection: psycopg.Connection, schema: str, lost: Sequence[str]) -> SchemaMismatch:
    """The error for a schema that lacks tables of its queue: with the statements that bring them back, if they stand in
    another schema that has no queue of its own."""
    rows = connection.execute(
        "SELECT c.relname::text,"
        " pg_catalog.format('ALTER TABLE %%I.%%I SET SCHEMA %%I', n.nspname, c.relname, %s::text)"
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = ANY (%s::name[]) AND n.nspname <> %s AND c.relkind IN ('r', 'p', 'v')"
        " AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND NOT EXISTS (SELECT FROM pg_catalog.pg_class m"
        " WHERE m.relnamespace = n.oid AND m.relname = %s) ORDER BY 2",
        (schema, list(lost), schema, MARKER),
    ).fetchall()
    moved: dict[str, str] = dict(rows)
    if len(rows) == len(moved) == len(lost):
        remedy = "; ".join(moved.values())
    elif "jobs" in lost:
        remedy = "restore it from a backup, or drop what remains of it and migrate again"
    else:
        remedy = "restore it from a backup"
    return SchemaMismatch(f"schema {schema!r} is half-migrated. It lacks {_few(lost)}: {remedy}")


def refuse_foreign(connection: psycopg.Connection, schema: str, ours: Sequence[Part], functions: Sequence[str]) -> None:
    """Raise SchemaMismatch if a name that the queue needs is taken."""
    rows = connection.execute(
        "SELECT o.what, pg_catalog.pg_get_userbyid(o.owner)::text FROM ("  # noqa: S608
        "SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'"
        " WHEN 'c' THEN 'type' WHEN 'f' THEN 'foreign table' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index'"
        " ELSE 'table' END || ' ' || c.relname::text, c.relowner, c.relnamespace FROM pg_catalog.pg_class c"
        " WHERE c.relname = ANY (%(all)s::name[])"
        " UNION ALL SELECT 'type ' || t.typname::text, t.typowner, t.typnamespace FROM pg_catalog.pg_type t"
        " WHERE t.typrelid = 0 AND t.typname = ANY (%(tables)s::name[])"
        " UNION ALL SELECT "
        + routines.SHOWN
        + ", p.proowner, p.pronamespace FROM pg_catalog.pg_proc p WHERE p.proname = ANY (%(functions)s::name[])"
        ") AS o (what, owner, namespace) JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace"
        " WHERE n.nspname = %(schema)s ORDER BY o.what LIKE 'table %%' DESC, 1",
        {
            "all": [part.name for part in ours],
            "tables": [part.name for part in ours if part.kind != "index"],
            "functions": list(functions),
            "schema": schema,
        },
    ).fetchall()
    new = any(part.name == MARKER for part in ours)
    # Another migration may have made them all since `marked` was asked.
    if not rows or (new and marked(connection, schema)):
        return
    taken = _few([f"{what} of role {owner!r}" for what, owner in rows])
    remedy = "Name another schema with --schema NAME" if new else "Rename, move or drop them, and migrate again"
    # Most of our names at once are no accident.
    if new and 2 * len(rows) > sum(part.kind == "table" for part in ours):
        remedy += ". If they are a part of a backup, restore the backup whole"
    raise SchemaMismatch(f"schema {schema!r} has other objects with names that the queue needs: {taken}. {remedy}")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _column(connection: psycopg.Connection, query: LiteralString, *arguments: object) -> list[object]:
    return [value for (value,) in connection.execute(query, arguments)]
