"""Makes the roles of sql/roles.sql, and gives them the rights of sql/rights.sql and no others. `migrate` uses it."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from shithubd_worker.database import routines
from shithubd_worker.database.rights import (
    GRANTED,
    MIGRATE,
    OWNER,
    ROLES,
    can_become,
    find_owner,
    grants,
    in_pg_catalog,
    value,
)
from shithubd_worker.errors import Refused, RightsMissing
from shithubd_worker.host import shipped
from shithubd_worker.plain import shell_word
from shithubd_worker.timing import MIGRATION_LOCK_SECONDS

# The roles that work with the queue. A login that had the tables before becomes a member of these, so it can go on.
WORKING = ("shithub_worker", "shithub_enqueue", "shithub_operator")


def make_roles(connection: psycopg.Connection, schema: str) -> list[str]:
    """Make the missing roles, and make this login a member of shithub_migrate if it can't become the owner. Returns
    what was done. Raises RightsMissing, with the statements for a superuser, if the login may not do that."""
    missing = _missing(connection)
    user = connection.info.user
    quoted = sql.Identifier(user).as_string(connection)
    # The login that owned the queue until now goes on working with it (hand_over).
    needed = ", ".join((MIGRATE, *WORKING) if find_owner(connection, schema) == user else (MIGRATE,))
    if missing and not value(connection, "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"):
        raise RightsMissing(
            f"role {user!r} may not create roles ({', '.join(missing)}). As a superuser, or with CREATEROLE:",
            f"  psql -f {shell_word(str(shipped.SQL / 'roles.sql'))} -c {shell_word(f'GRANT {needed} TO {quoted}')}",
            "then again: shithubd-worker migrate --roles",
        )
    done = []
    if missing:
        connection.execute((shipped.SQL / "roles.sql").read_bytes())
        done += [f"role {name}" for name in missing if name not in _missing(connection)]
    if not can_become(connection, OWNER):
        try:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(MIGRATE), sql.Identifier(user)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise RightsMissing(
                f"role {user!r} is not a member of {MIGRATE}. As a superuser: GRANT {needed} TO {quoted}"
            ) from error
        done.append(f"role {MIGRATE} given to {user}")
    return done


def hand_over(connection: psycopg.Connection, schema: str, functions: Sequence[str]) -> list[str]:
    """Make shithub_owner the owner of the queue. Returns what was done.

    The new owner gets the tables and what is attached to the history. Of what is only named like ours, it gets what the
    old owner has: functions, and days that were detached and not dropped. What a stranger named so stays the
    stranger's.

    A login that owned the queue until now becomes a member of the roles that it works with, so its workers go on.
    """
    _let_create(connection, schema)
    owner = find_owner(connection, schema)
    if owner in (None, OWNER):
        return []
    connection.execute(f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_SECONDS}s'".encode())
    tables = sorted({grant.object for grant in grants() if grant.privilege != "EXECUTE"})
    # A day whose detach was interrupted can't be altered until the detach is finished.
    pending = connection.execute(
        "SELECT format('ALTER TABLE %%s DETACH PARTITION %%s FINALIZE', inhparent::regclass, inhrelid::regclass)"
        " FROM pg_inherits WHERE inhdetachpending AND inhparent IN (SELECT relid FROM pg_partition_tree("
        "  to_regclass(format('%%I.job_history', %s::text))))",
        (schema,),
    ).fetchall()
    rows = connection.execute(
        "WITH RECURSIVE ours AS (SELECT oid FROM pg_class WHERE relname = ANY (%(tables)s)"
        "  AND relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND relkind IN ('r', 'p', 'v')"
        " UNION SELECT inhrelid FROM ours JOIN pg_inherits ON inhparent = oid)"
        " SELECT format('ALTER TABLE %%s OWNER TO %%I', oid::regclass, %(new)s::text) FROM ours"
        " UNION SELECT format('ALTER TABLE %%s OWNER TO %%I', oid::regclass, %(new)s::text) FROM pg_class"
        " WHERE relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND relkind = 'r'"
        " AND relowner = %(old)s::regrole AND relname ~ '^job_history_(7d|90d)_[0-9]{8}$'"
        " UNION SELECT format('ALTER ROUTINE %%s OWNER TO %%I', oid::regprocedure, %(new)s::text) FROM pg_proc"
        " WHERE pronamespace = to_regnamespace(quote_ident(%(schema)s))"
        " AND proowner = %(old)s::regrole AND oid = ANY (%(functions)s)",
        {
            "tables": tables,
            "schema": schema,
            "functions": [each.oid for each in routines.named(connection, schema, functions) if each.own],
            "old": sql.Identifier(str(owner)).as_string(connection),
            "new": OWNER,
        },
    ).fetchall()
    for (alter,) in [*pending, *rows]:
        connection.execute(alter.encode())
    done = [f"owner {OWNER} in place of {owner}"]
    if not value(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = %s", owner):
        is_member = "SELECT pg_has_role(%s, %s, 'MEMBER')"
        given = [name for name in WORKING if not value(connection, is_member, owner, name)]
        names, quoted = ", ".join(given), sql.Identifier(str(owner))
        try:
            for name in given:
                connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(name), quoted))
        except psycopg.errors.InsufficientPrivilege as error:
            raise RightsMissing(
                f"role {owner!r} owned the queue until now, and goes on working with it. As a superuser:"
                f" GRANT {names} TO {quoted.as_string(connection)}"
            ) from error
        if given:
            lacks_it = not value(connection, is_member, owner, MIGRATE)
            but = f", but not {MIGRATE}, which `migrate` and `history drop` need" if lacks_it else ""
            done.append(f"roles {names} given to {owner}{but}")
    return done


def _let_create(connection: psycopg.Connection, schema: str) -> None:
    """The owner may create in the schema, the other roles may use it, and nothing more."""
    name = sql.Identifier(schema)
    wanted = [(OWNER, "CREATE"), *((role, "USAGE") for role in (OWNER, *GRANTED))]
    row = connection.execute(
        # The rights of PUBLIC don't count here, because somebody may take them away.
        "SELECT pg_catalog.pg_get_userbyid(nspowner), (SELECT count(DISTINCT (a.grantee, a.privilege_type))"
        " FROM pg_catalog.aclexplode(nspacl) a JOIN unnest(%s::text[], %s::text[]) AS w (role, privilege)"
        " ON a.privilege_type = w.privilege AND a.grantee = w.role::pg_catalog.regrole)"
        " FROM pg_catalog.pg_namespace WHERE nspname = %s",
        (*map(list, zip(*wanted, strict=True)), schema),
    ).fetchone()
    if row is None:
        connection.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(name, sql.Identifier(OWNER)))
    elif row[1] == len(wanted):
        return
    if row is None or row[0] == OWNER:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(OWNER)))
    # If the schema belongs to another role, these only give warnings. CREATE TABLE then says what is missing.
    connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(name, sql.Identifier(OWNER)))
    roles = sql.SQL(", ").join(map(sql.Identifier, GRANTED))
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(name, roles))
    connection.execute("SET LOCAL ROLE NONE")


def shut(connection: psycopg.Connection, schema: str, functions: Sequence[str]) -> None:
    """Take the functions from PUBLIC. PostgreSQL lets everybody call a new function."""
    rows = connection.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = to_regnamespace(quote_ident(%s))"
        " AND proname = ANY (%s) AND has_function_privilege('public', oid, 'EXECUTE')",
        (schema, list(functions)),
    ).fetchall()
    if rows:
        connection.execute(f"REVOKE ALL ON FUNCTION {', '.join(name for (name,) in rows)} FROM PUBLIC".encode())


def give(connection: psycopg.Connection, schema: str) -> list[str]:
    """Give the roles the rights of rights.sql. Take all their other rights on the queue, and the right to create in its
    schema. Must run as the owner, with the schema in the search_path. Returns what was done. Raises Refused for a right
    that another role gave, because only that role can take it."""
    before = held(connection, schema)
    for what in sorted({what for what, *_ in before}):
        rights = "CREATE" if what.startswith("SCHEMA ") else "ALL"
        connection.execute(f"REVOKE {rights} ON {what} FROM PUBLIC, {', '.join((*GRANTED, MIGRATE))} CASCADE".encode())
    for what, column, role, privilege, grantor in sorted(held(connection, schema)):
        right = f"{privilege}{column} ON {what}"
        raise Refused(
            f"{role} must not have {right}, and only {grantor}, who gave it, can take it back. As a superuser:"
            f" SET ROLE {grantor}; REVOKE {right} FROM {role} CASCADE"
        )
    connection.execute((shipped.SQL / "rights.sql").read_bytes())
    after = held(connection, schema)
    if before == after:
        return []
    return [f"rights: {len(after - before)} given, {len(before - after)} taken"]


# The rights that the roles and PUBLIC (oid 0) have: on everything that the owner owns in the schema, and on the schema
# itself, without USAGE.
_HELD = """
    SELECT h.what, h.col, CASE h.grantee WHEN 0 THEN 'PUBLIC' ELSE h.grantee::pg_catalog.regrole::text END,
           h.privilege, h.grantor::pg_catalog.regrole::text
      FROM (SELECT pg_catalog.format('%%s %%I.%%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                                     n.nspname, c.relname), a.col, a.grantee, a.privilege_type, a.grantor, c.relowner
              FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid,
                   LATERAL (SELECT '', r.* FROM pg_catalog.aclexplode(c.relacl) r
                            UNION ALL
                            SELECT pg_catalog.format(' (%%I)', t.attname), r.*
                              FROM pg_catalog.pg_attribute t, pg_catalog.aclexplode(t.attacl) r
                             WHERE t.attrelid = c.oid) AS a (col, grantor, grantee, privilege_type, grantable)
             WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'v', 'S')
            UNION ALL
            SELECT pg_catalog.format('FUNCTION %%I.%%I(%%s)', n.nspname, p.proname,
                                     pg_catalog.pg_get_function_identity_arguments(p.oid)),
                   '', a.grantee, a.privilege_type, a.grantor, p.proowner
              FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid,
                   pg_catalog.aclexplode(p.proacl) a
             WHERE n.nspname = %(schema)s
            UNION ALL
            SELECT pg_catalog.format('SCHEMA %%I', n.nspname), '', a.grantee, a.privilege_type, a.grantor,
                   %(owner)s::pg_catalog.regrole
              FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
             WHERE n.nspname = %(schema)s AND a.privilege_type = 'CREATE'
           ) AS h (what, col, grantee, privilege, grantor, owner)
     WHERE h.owner = %(owner)s::pg_catalog.regrole
       AND (h.grantee = 0 OR h.grantee::pg_catalog.regrole::text = ANY (%(roles)s))
"""


def held(connection: psycopg.Connection, schema: str) -> set[tuple[str, ...]]:
    """What the roles and PUBLIC have, where shithub_owner owns the queue: the object, ' (COLUMN)' or '', the role, the
    right, and who gave it."""
    given = {"schema": schema, "roles": [*GRANTED, MIGRATE], "owner": OWNER}
    return set(connection.execute(_HELD.encode(), given).fetchall())


def memberships(connection: psycopg.Connection) -> list[str]:
    """The memberships that give rights which rights.sql doesn't list: members of the owner other than shithub_migrate,
    and roles of ours that are members of another role of ours. Superusers have all rights anyway."""
    with in_pg_catalog(connection):
        rows = connection.execute(
            "SELECT DISTINCT member.rolname || ' is a member of ' || role.rolname"
            " FROM pg_auth_members m CROSS JOIN to_jsonb(m) AS o (o)"
            " JOIN pg_roles role ON role.oid = m.roleid JOIN pg_roles member ON member.oid = m.member"
            " WHERE (role.rolname = %s OR role.rolname = ANY (%s) AND member.rolname = ANY (%s))"
            " AND (member.rolname, role.rolname) <> (%s, %s) AND NOT member.rolsuper"
            # Since PostgreSQL 16 the maker of a role is a member of it, and may only pass the membership on.
            " AND coalesce(o->>'set_option', 'true') || coalesce(o->>'inherit_option', 'true') <> 'falsefalse'"
            " ORDER BY 1",
            (OWNER, list(ROLES), list(ROLES), MIGRATE, OWNER),
        ).fetchall()
    return [name for (name,) in rows]


def who_may_migrate(connection: psycopg.Connection, schema: str, *, roles: bool) -> str:
    """What to tell a login that may not migrate. Only a login that makes a new queue needs the right to create. In the
    schema of an existing queue, that right would be as much as the owner's rights."""
    with in_pg_catalog(connection):
        owner = find_owner(connection, schema)
        stands = value(connection, "SELECT pg_catalog.to_regnamespace(pg_catalog.quote_ident(%s))::text", schema)
    if owner is not None:
        return f"{MIGRATE}'s members may" if owner == OWNER else f"its owner {owner!r} may"
    new = sql.Identifier(OWNER if roles else connection.info.user)
    names = (sql.Identifier(schema), new)
    grant = sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(*names)
    if stands is None:
        grant = sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(*names)
    return f"for a new queue, as a superuser: {grant.as_string(connection)}"


def _missing(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", (list(ROLES),)).fetchall()
    return [name for name in ROLES if (name,) not in rows]
