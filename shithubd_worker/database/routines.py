"""The functions of a schema that have names of ours: the queue's own functions, and another's.

A name that ends in _v and a number is the queue's. An application may have each other name, too. So `migrate` records
which functions with such names it made, in worker_schema: the name, and a digest of the body. A dump, a new name of the
schema and a new owner keep that record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import LiteralString, NamedTuple

import psycopg
from psycopg import sql

from shithubd_worker.errors import SchemaMismatch

_RESERVED = "_v[0-9]+$"
_BODY = sql.SQL("pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex')")
# What p is, with the types that tell it from another one of this name.
SHOWN: LiteralString = (
    "CASE p.prokind WHEN 'p' THEN 'procedure ' WHEN 'a' THEN 'aggregate ' ELSE 'function ' END"
    " || pg_catalog.format('%%I(%%s)', p.proname, pg_catalog.oidvectortypes(p.proargtypes))"
)


class Routine(NamedTuple):
    """A function, procedure or aggregate. `row` changes when it is replaced."""

    oid: int
    row: str
    name: str
    own: bool
    shown: str
    owner: str
    rename: str


def named(connection: psycopg.Connection, schema: str, names: Sequence[str]) -> list[Routine]:
    """Everything that has one of these names in the schema of a queue, sorted by their types."""
    # One statement, so that it sees the functions and the record of the same migrate.
    rows = connection.execute(
        sql.SQL(
            "SELECT p.oid, p.ctid::text, p.proname::text, p.proname::text ~ {reserved}::text OR coalesce({body} ="
            "  (SELECT pg_catalog.to_jsonb(w) -> 'made'::text ->> p.proname::text FROM {marker} w), false),"
            " {shown}, pg_catalog.pg_get_userbyid(p.proowner)::text,"
            " pg_catalog.format('ALTER ROUTINE %%I.%%I(%%s) RENAME TO another_name', %s::text, p.proname,"
            "  pg_catalog.oidvectortypes(p.proargtypes)) FROM pg_catalog.pg_proc p"
            " WHERE p.pronamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident(%s))"
            " AND p.proname = ANY (%s::name[]) ORDER BY 5"
        ).format(reserved=_RESERVED, body=_BODY, marker=sql.Identifier(schema, "worker_schema"), shown=sql.SQL(SHOWN)),
        (schema, schema, list(names)),
    )
    return [Routine(*row) for row in rows]


def dropped(texts: Iterable[str]) -> set[str]:
    """The functions of earlier releases that migrations with these texts drop."""
    return {name for text in texts for name in re.findall(r"^DROP FUNCTION IF EXISTS (\w+)", text, re.MULTILINE)}


def missing(connection: psycopg.Connection, schema: str, names: Sequence[str]) -> list[str]:
    """The names that no function of the queue has."""
    own = {each.name for each in named(connection, schema, names) if each.own}
    return [name for name in names if name not in own]


def refuse(schema: str, others: Sequence[Routine]) -> None:
    """Raise SchemaMismatch if another has functions with names of the queue's functions. Such a function would get
    calls that are meant for the queue's, even if its arguments are others."""
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise SchemaMismatch(
            f"schema {schema!r} has {others[0].shown} of role {others[0].owner!r}{more}. The queue needs the name, and"
            f" `migrate` did not make this one. Rename it, move it or drop it, and migrate again: {others[0].rename}"
        )


def create_new(text: str, names: Sequence[str], standing: Sequence[Routine]) -> str:
    """The text of the functions, which replaces only what stands there. For all others it says CREATE: PostgreSQL then
    refuses a name that somebody takes in the meantime."""
    known = {each.name for each in standing}
    new = "|".join(name for name in names if name not in known)
    return re.sub(rf"^CREATE OR REPLACE FUNCTION (?=(?:{new})\()", "CREATE FUNCTION ", text, flags=re.MULTILINE)


def record(connection: psycopg.Connection, schema: str, names: Sequence[str]) -> None:
    """Note which functions `migrate` made. A function of another release stays noted: it is ours, too."""
    made = [name for name in names if not re.search(_RESERVED, name)]
    if made:
        connection.execute(
            sql.SQL(
                "UPDATE {marker} SET made = made || (SELECT pg_catalog.jsonb_object_agg(p.proname, {body})"
                " FROM pg_catalog.pg_proc p WHERE p.pronamespace = pg_catalog.to_regnamespace("
                "pg_catalog.quote_ident(%s)) AND p.proname = ANY (%s::name[]))"
            ).format(marker=sql.Identifier(schema, "worker_schema"), body=_BODY),
            (schema, made),
        )
