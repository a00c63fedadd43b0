"""The roles of sql/roles.sql, and their rights in sql/rights.sql."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import LiteralString, NamedTuple

import psycopg
from psycopg import sql

from shithubd_worker.errors import LACKS, RightsMissing
from shithubd_worker.host import shipped

OWNER, MIGRATE = "shithub_owner", "shithub_migrate"
# The roles that have rights by GRANT.
GRANTED = ("shithub_worker", "shithub_enqueue", "shithub_operator", "shithub_metrics")
ROLES = (OWNER, MIGRATE, *GRANTED)


class Grant(NamedTuple):
    """One right of one role. `object` is a table, or a function's name. `columns` is () if the right covers the whole
    table."""

    role: str
    privilege: str
    columns: tuple[str, ...]
    object: str


@cache
def grants() -> tuple[Grant, ...]:
    """Everything in sql/rights.sql."""
    return tuple(_grants(re.sub(r"--[^\n]*", "", (shipped.SQL / "rights.sql").read_text(encoding="utf-8"))))


def _grants(text: str) -> Iterator[Grant]:
    for statement in filter(str.strip, text.split(";")):
        privileges, objects, roles = re.split(r"\bON(?: FUNCTION)?\b|\bTO\b", statement.strip().removeprefix("GRANT"))
        for role in re.findall(r"\w+", roles):
            for name in re.findall(r"\w+", objects):
                for privilege, columns in re.findall(r"([A-Z]+)(?: \(([^)]*)\))?", privileges):
                    yield Grant(role, privilege, tuple(re.findall(r"\w+", columns)), name)


@contextmanager
def in_pg_catalog(connection: psycopg.Connection) -> Iterator[None]:
    """A transaction that looks names up in pg_catalog alone. It is for questions outside of our functions. In another
    schema of the path, a stranger may have a function or an operator that fits better. It would run with the asker's
    rights."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path TO pg_catalog, pg_temp")
        yield


def check(connection: psycopg.Connection, schema: str, role: str) -> None:
    """Raises RightsMissing if the login lacks a right of this role of ours."""
    wanted = [
        (grant.privilege, column, grant.object)
        for grant in grants()
        if grant.role == role
        for column in grant.columns or ("",)  # not NULL: a database may have array_nulls off
    ]
    rows = connection.execute(
        "SELECT privilege, name, col"
        " FROM unnest(%s::text[], %s::text[], %s::text[]) AS w (privilege, col, name),"
        " LATERAL (SELECT CASE WHEN privilege <> 'EXECUTE'"
        " THEN pg_catalog.format('%%I.%%I', %s::text, name) END AS relation) t"
        " WHERE NOT CASE"
        " WHEN privilege = 'EXECUTE' THEN coalesce("
        "(SELECT bool_or(pg_catalog.has_function_privilege(p.oid, privilege))"
        " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname = %s AND proname = name), false)"
        " WHEN col = '' THEN pg_catalog.has_table_privilege(relation, privilege)"
        " ELSE pg_catalog.has_column_privilege(relation, col, privilege) END",
        (*map(list, zip(*wanted, strict=True)), schema, schema),
    ).fetchall()
    if rows:
        missing = [f"{privilege} on {name}" + (f" ({column})" if column else "") for privilege, name, column in rows]
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""  # noqa: PLR2004 (enough to see what it is)
        grant = f"GRANT {role} TO {sql.Identifier(connection.info.user).as_string(connection)}"
        if find_owner(connection, schema) != OWNER:
            help_ = f"; its owner can give it, or, with the roles of `migrate --roles`: {grant}"
        elif lacks(connection, schema, role):
            help_ = f": {grant}"
        else:
            help_ = f"; {role} has it after `shithubd-worker migrate`"
        raise RightsMissing(f"{LACKS}: {', '.join(missing[:3])}{more}{help_}")


def remedy(connection: psycopg.Connection, schema: str, role: str) -> str | None:
    """What gives this login the rights of a role of ours, as SQL. None if neither the role nor the owner could help."""
    owner = find_owner(connection, schema)
    if owner is None or owns(connection, schema):
        return None
    user = sql.Identifier(connection.info.user).as_string(connection)
    if owner == OWNER:
        return f"this needs the role {role}: GRANT {role} TO {user}" if lacks(connection, schema, role) else None
    if role == MIGRATE:
        return f"its owner {owner!r} may"
    if role == "shithub_enqueue":  # a few rights, which a queue without our roles can give to a login
        where = sql.Identifier(schema).as_string(connection)
        given = [f"GRANT USAGE ON SCHEMA {where} TO {user}"]
        for _, privilege, columns, name in (grant for grant in grants() if grant.role == role):
            of = f" ({', '.join(columns)})" if columns else ""
            given.append(f"GRANT {privilege}{of} ON {where}.{name} TO {user}")
        return f"its owner {owner!r} can give it: {'; '.join(given)}"
    return f"its owner {owner!r} can give it: `shithubd-worker migrate --roles`, then GRANT {role} TO {user}"


def lacks(connection: psycopg.Connection, schema: str, role: str) -> bool:
    """Would membership in a role of ours help this login? Not where the roles have no rights, not for a member, and not
    for the owner."""
    return find_owner(connection, schema) == OWNER and not value(
        connection,
        "SELECT pg_has_role(%s, 'USAGE') OR coalesce((SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles"
        " WHERE rolname = %s), false)",
        OWNER,
        role,
    )


def owns(connection: psycopg.Connection, schema: str) -> bool:
    """Has the login, or the role that it took, all rights of the queue's owner?"""
    owner = find_owner(connection, schema)
    return owner is not None and bool(value(connection, "SELECT pg_has_role(%s, 'USAGE')", owner))


def become_owner(connection: psycopg.Connection, schema: str, *, roles: bool = False, session: bool = False) -> bool:
    """Become the owner of the queue, if the login may, for the rest of the transaction or session. With `roles`, become
    shithub_owner. True if it is shithub_owner, so that the roles have the rights of rights.sql."""
    owner = OWNER if roles else find_owner(connection, schema)
    if owner is not None and owner != connection.info.user and can_become(connection, owner):
        how = sql.SQL("SESSION" if session else "LOCAL")
        connection.execute(sql.SQL("SET {} ROLE {}").format(how, sql.Identifier(owner)))
    return owner == OWNER


def find_owner(connection: psycopg.Connection, schema: str) -> str | None:
    """The owner of the queue. None if there is no queue."""
    owner = value(
        connection,
        "SELECT pg_get_userbyid(c.relowner)::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = 'worker_schema' AND n.nspname = %s",
        schema,
    )
    return None if owner is None else str(owner)


def can_become(connection: psycopg.Connection, role: str) -> bool:
    """May the login SET ROLE to it?"""
    # Since PostgreSQL 16 a member may lack the right to SET ROLE.
    how = "SET" if connection.info.server_version >= 160000 else "MEMBER"  # noqa: PLR2004
    return bool(value(connection, "SELECT pg_has_role(%s, %s)", role, how))


def value(connection: psycopg.Connection, query: LiteralString, *arguments: object) -> object:
    """The first column of the first row. None if there is no row."""
    row = connection.execute(query, arguments).fetchone()
    return row[0] if row else None
