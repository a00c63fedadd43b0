"""Whether the roles and the workers' logins have the rights of sql/rights.sql, and no others."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from shithubd_worker.database import granting, rights, schema
from shithubd_worker.doctor.finding import Finding, Severity, Unchecked, finding

_WORKER = "shithub_worker"
_MOST_LOGINS = 20
# What each of `who` lacks of what it should have. A name that is not there has no rights: function-drift finds it.
_LACKS = """
    SELECT w.who, w.privilege || ' on ' || w.name || CASE w.col WHEN '' THEN '' ELSE ' (' || w.col || ')' END
      FROM unnest(%(who)s::text[], %(privilege)s::text[], %(col)s::text[], %(name)s::text[])
           AS w (who, privilege, col, name)
     WHERE CASE WHEN w.privilege = 'EXECUTE'
                THEN EXISTS (SELECT FROM pg_proc p WHERE p.proname = w.name::name AND p.pronamespace = %(schema)s::oid
                                AND NOT has_function_privilege(w.who, p.oid, 'EXECUTE'))
                WHEN w.col = ''
                THEN EXISTS (SELECT FROM pg_class c WHERE c.relname = w.name::name AND c.relnamespace = %(schema)s::oid
                                AND NOT has_table_privilege(w.who, c.oid, w.privilege))
                ELSE EXISTS (SELECT FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                              WHERE c.relname = w.name::name AND c.relnamespace = %(schema)s::oid
                                AND a.attname = w.col::name
                                AND NOT has_column_privilege(w.who, c.oid, a.attnum, w.privilege)) END
    UNION ALL
    SELECT DISTINCT w.who, 'USAGE on the schema' FROM unnest(%(who)s::text[]) AS w (who)
     WHERE NOT has_schema_privilege(w.who, %(schema)s::oid, 'USAGE')
"""


def missing(connection: psycopg.Connection, name: str) -> Iterator[Finding | Unchecked]:
    """What roles and workers' logins lack, and what roles have that they should not have."""
    owner = rights.find_owner(connection, name)
    if owner is None:
        yield Unchecked("missing-rights", "there is no queue: see schema-version")
        return
    logins = _logins_of_workers(connection)
    who = dict.fromkeys(logins, _WORKER)
    if owner == rights.OWNER:
        there = {row[0] for row in connection.execute("SELECT rolname::text FROM pg_roles")}
        who |= {role: role for role in rights.GRANTED if role in there}
        if lost := [role for role in rights.ROLES if role not in there]:
            said = f"the server lacks {len(lost)} of the queue's roles: run `shithubd-worker migrate --roles`"
            yield finding("missing-rights", Severity.WARNING, said, {"roles": lost})
    for each, lacks in _lacks(connection, name, who).items():
        worker = _WORKER in (each, who[each])
        what = f"role {each} lacks {len(lacks)} of its rights: run `shithubd-worker migrate`"
        if each in logins:
            what = f"login {each}, as which a worker is connected, lacks {len(lacks)} of the rights of {_WORKER}"
        yield finding("missing-rights", Severity.CRITICAL if worker else Severity.WARNING, what, {"lacks": lacks})
    if owner == rights.OWNER and (more := _more(connection, name)):
        said = f"the queue's roles, or PUBLIC, have {len(more)} right(s) that they should not have"
        yield finding("missing-rights", Severity.WARNING, said, {"too_much": more})


def _logins_of_workers(connection: psycopg.Connection) -> list[str]:
    """As whom workers are connected now. A superuser has all rights."""
    rows = connection.execute(
        "SELECT DISTINCT a.usename::text FROM pg_stat_activity a JOIN pg_roles r ON r.rolname = a.usename"
        " WHERE a.datname = current_database() AND a.application_name = 'shithubd-worker' AND NOT r.rolsuper"
        " ORDER BY 1 LIMIT %s",
        (_MOST_LOGINS,),
    )
    return [login for (login,) in rows]


def _lacks(connection: psycopg.Connection, name: str, who: dict[str, str]) -> dict[str, list[str]]:
    wanted = [
        (each, grant.privilege, column, grant.object)
        for each, role in who.items()
        for grant in rights.grants()
        if grant.role == role
        for column in grant.columns or ("",)
    ]
    found: dict[str, list[str]] = {}
    if wanted:
        given = dict(zip(("who", "privilege", "col", "name"), map(list, zip(*wanted, strict=True)), strict=True))
        oid = rights.value(connection, "SELECT oid FROM pg_namespace WHERE nspname = %s", name)
        for each, what in connection.execute(_LACKS.encode(), {**given, "schema": oid}):
            found.setdefault(each, []).append(what)
    return found


def _more(connection: psycopg.Connection, name: str) -> list[str]:
    wanted = {
        (grant.object, f" ({column})" if column else "", grant.role, grant.privilege)
        for grant in rights.grants()
        for column in grant.columns or ("",)
    }
    more = {
        f"{privilege}{column} on {what} to {role}"
        for what, column, role, privilege, _ in granting.held(connection, name)
        if (_object(what), column, role, privilege) not in wanted
    }
    # Somebody made it anew: PostgreSQL lets everybody call a new function.
    for_all = connection.execute(
        "SELECT 'EXECUTE on FUNCTION ' || oid::regprocedure::text || ' to PUBLIC' FROM pg_proc"
        " WHERE pronamespace = to_regnamespace(quote_ident(%s)) AND proname = ANY (%s::name[]) AND proacl IS NULL",
        (name, list(schema.function_names())),
    )
    return sorted(more | {each for (each,) in for_all}) + granting.memberships(connection)


def _object(what: str) -> str:
    """The name in, for example, FUNCTION queue.status_v1(text)."""
    return what.partition("(")[0].rpartition(".")[2]
