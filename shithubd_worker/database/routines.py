"""The functions of a schema that have names of ours: the queue's own functions, and another's.

A name that ends in _v and a number is the queue's. An application may have each other name, too. So `migrate` records
which functions with such names it made, in worker_schema: the name, and a digest of the body. A dump, a new name of the
schema and a new owner keep that record."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import LiteralString, NamedTuple

import psycopg
from psycopg import sql

from shithubd_worker.errors import Refused, SchemaMismatch

_RESERVED = "_v[0-9]+$"
_BODY = sql.SQL("pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex')")
_TEXT_OF_BODY = re.compile(r"AS \$\$(.*?)\$\$", re.DOTALL)
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


def everybody_creates(connection: psycopg.Connection, schema: str) -> bool:
    """May every login create in the schema? Then a login can make the users of the queue run its code: PostgreSQL
    prefers a function or an operator with better fitting arguments to its own."""
    row = connection.execute(
        "SELECT FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a"
        " WHERE n.nspname = %s AND a.grantee = 0 AND a.privilege_type = 'CREATE'",
        (schema,),
    ).fetchone()
    return row is not None


def refuse_strangers(connection: psycopg.Connection, schema: str, names: Sequence[str]) -> None:
    """Raises Refused if a login that isn't trusted with the schema may create in it, or has done so."""
    beside = "or give the queue a schema of its own: --schema NAME"
    if everybody_creates(connection, schema):
        revoke = sql.SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC").format(sql.Identifier(schema)).as_string(connection)
        raise Refused(
            f"everybody may create in schema {schema!r}, so anybody can make the users of the queue run their code:"
            f" as its owner, {revoke}; {beside}"
        )
    row = connection.execute(
        "SELECT f.what, pg_catalog.pg_get_userbyid(f.owner) FROM"  # noqa: S608
        f" (SELECT {SHOWN}, proowner, pronamespace FROM pg_catalog.pg_proc p"
        "   WHERE proname LIKE '%%\\_v_' OR proname = ANY (%s::name[]) OR EXISTS (SELECT FROM pg_catalog.pg_proc o"
        "    WHERE o.proname = p.proname AND o.pronamespace = 'pg_catalog'::regnamespace)"
        "  UNION ALL SELECT 'operator ' || oprname::text, oprowner, oprnamespace FROM pg_catalog.pg_operator"
        " ) AS f (what, owner, namespace) JOIN pg_catalog.pg_namespace n ON n.oid = f.namespace"
        " WHERE n.nspname = %s AND NOT pg_catalog.has_schema_privilege(f.owner, n.oid, 'CREATE') ORDER BY 1 LIMIT 1",
        (list(names), schema),
    ).fetchone()
    if row is not None:
        raise Refused(
            f"the {row[0]} in schema {schema!r} belongs to {row[1]!r}, who may not create there. It could run with the"
            f" rights of the queue's users: move it to another schema, drop it, {beside}"
        )


def compare(
    connection: psycopg.Connection, schema: str, texts: Mapping[str, str]
) -> tuple[list[str], list[str], list[str]]:
    """Compare the functions that stand there with their texts. Returns the names of those that are missing and of those
    that are changed, and what others stand beside them."""
    found = defaultdict(list)
    rows = connection.execute(
        "SELECT p.proname::text, "  # noqa: S608
        + SHOWN
        + ", p.prosrc, p.prosecdef, coalesce(pg_catalog.array_to_string(p.proconfig, ' '), '') LIKE '%%search_path=%%'"
        " FROM pg_catalog.pg_proc p WHERE p.pronamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident(%s))"
        " AND p.proname = ANY (%s::name[])",
        (schema, list(texts)),
    )
    for each, shown, body, definer, pinned in rows:
        found[each].append((shown, (_digest(body), definer, pinned)))
    missing, changed, beside = [], [], []
    for name, text in texts.items():
        body = _TEXT_OF_BODY.search(text)
        head = re.sub(r"^--.*$", "", text[: body.start()] if body else text, flags=re.MULTILINE)
        wanted = (_digest(body[1]) if body else "", "SECURITY DEFINER" in head, True)
        standing = found[name]
        as_made = [shown for shown, has in standing if has == wanted]
        if not standing:
            missing.append(name)
        elif not as_made and len(standing) == 1:
            changed.append(name)
        else:
            if not as_made:
                changed.append(name)
            beside += sorted(shown for shown, has in standing if has != wanted)
    return missing, changed, beside


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
