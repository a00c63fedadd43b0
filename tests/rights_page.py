"""docs/rights.md: who may do what, as a database says it. `make rights` writes the page; a test compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

PAGE = Path(__file__).parents[1] / "docs/rights.md"
# Of each a column; PUBLIC is a login that is a member of nothing.
WHO = ("shithub_worker", "shithub_enqueue", "shithub_operator", "shithub_metrics", "shithub_migrate", "public")
TABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
COLUMN = ("SELECT", "INSERT", "UPDATE", "REFERENCES")
SEQUENCE = ("USAGE", "SELECT", "UPDATE")
INTRODUCTION = """\
# Who may do what

`shithubd-worker migrate --roles` makes these roles and gives them the rights of [sql/rights.sql](../sql/rights.sql),
and no others. This page is what a database says of them afterwards: `make rights` writes it, and a test compares it
with PostgreSQL 15 and 18. What is added to the schema has no line here, and the test fails, until somebody decided.

| role | for |
|---|---|
| `shithub_owner` | owns everything below and has every right to it; nobody logs in as it |
| `shithub_migrate` | `migrate`, `history drop`: may `SET ROLE shithub_owner`, and without that nothing |
| `shithub_worker` | `run`, `release-dead` |
| `shithub_enqueue` | whoever enqueues: the forge |
| `shithub_operator` | whoever is on call: all other commands, and the SQL of the runbook's pages |
| `shithub_metrics` | `status`, `workers`, and exporters: it sees no payload, no error and no token |

A login gets its rights by `GRANT shithub_worker TO its_name`. One whose handlers enqueue is a member of two. The roles
belong to the whole cluster: in each database, and each schema, where `migrate --roles` ran, they have these rights.
What you give to others by hand stays as it is. What you give to the roles below, or to PUBLIC, of what is listed below:

- A right to a table, a column, a sequence or a function: the next `migrate` takes it away.
- CREATE on the schema: `migrate` takes it from the roles if `shithub_owner` owns the schema. Otherwise (`public`), and
  where PUBLIC has it, `migrate` refuses to go on, and says what to run.
- Such a right that somebody else than the owner gave: `migrate` refuses to go on, and says what to run.
- USAGE on the schema: it stays.

`migrate` warns of a member of `shithub_owner` that is neither `shithub_migrate` nor a superuser, and of a role of ours
that is a member of another. Both have rights that don't stand here.

A right with names in brackets is one to these columns alone. Functions marked † run as the owner.
"""


def page(connection: psycopg.Connection[Any]) -> str:
    """The whole page, as this database has it."""
    lines = [INTRODUCTION, "## Tables and sequences\n", _head("")]
    relations = connection.execute(
        "SELECT c.oid, c.relname, c.relkind = 'S' FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid"
        " WHERE relnamespace = 'public'::regnamespace AND relkind NOT IN ('i', 'I', 't', 'c')"
        " AND c.relname !~ '^job_history_(7d|90d)_[0-9]{8}$' ORDER BY 3, 2"
    ).fetchall()
    for oid, name, sequence in relations:
        cells = [_sequence(connection, who, oid) if sequence else _table(connection, who, oid) for who in WHO]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    lines.append("\nThe days of the history (`job_history_7d_20261126`, ...) have no rights of their own.\n")
    lines += ["## Functions\n", _head("")]
    functions = connection.execute(
        "SELECT oid, proname, prosecdef FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 2, 1"
    ).fetchall()
    for oid, name, definer in functions:
        cells = ["x" if _may(connection, "function", who, oid, "EXECUTE") else "" for who in WHO]
        lines.append(f"| `{name}`{' †' if definer else ''} | {' | '.join(cells)} |")
    lines += ["\n## The schema\n", _head("")]
    [(oid,)] = connection.execute("SELECT 'public'::regnamespace::oid").fetchall()
    for privilege in ("USAGE", "CREATE"):
        cells = ["x" if _may(connection, "schema", who, oid, privilege) else "" for who in WHO]
        lines.append(f"| {privilege} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def days_with_rights(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """The history's days of which somebody but the owner has a right."""
    return connection.execute(
        "SELECT relname, w FROM pg_class, unnest(%s::text[]) w WHERE relname ~ '^job_history_(7d|90d)_[0-9]{8}$'"
        " AND has_any_column_privilege(w, oid, 'SELECT, INSERT, UPDATE, REFERENCES')"
        " OR relname ~ '^job_history_(7d|90d)_[0-9]{8}$' AND has_table_privilege(w, oid, 'DELETE, TRUNCATE, TRIGGER')",
        (list(WHO),),
    ).fetchall()


def _head(first: str) -> str:
    names = [who.removeprefix("shithub_") if who != "public" else "PUBLIC" for who in WHO]
    return f"| {first} | {' | '.join(names)} |\n|---|{'---|' * len(WHO)}"


def _table(connection: psycopg.Connection[Any], who: str, oid: int) -> str:
    return ", ".join(_rights(connection, who, oid))


def _rights(connection: psycopg.Connection[Any], who: str, oid: int) -> Iterator[str]:
    columns = connection.execute(
        "SELECT attnum, attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        (oid,),
    ).fetchall()
    maintain = ("MAINTAIN",) if connection.info.server_version >= 170000 else ()
    for privilege in (*TABLE, *maintain):
        if _may(connection, "table", who, oid, privilege):
            yield privilege
        elif privilege in COLUMN:
            names = [
                name
                for number, name in columns
                if connection.execute(
                    "SELECT has_column_privilege(%s, %s::oid, %s::smallint, %s)", (who, oid, number, privilege)
                ).fetchone()
                == (True,)
            ]
            if names:
                yield f"{privilege} ({', '.join(names)})"


def _sequence(connection: psycopg.Connection[Any], who: str, oid: int) -> str:
    return ", ".join(privilege for privilege in SEQUENCE if _may(connection, "sequence", who, oid, privilege))


def _may(connection: psycopg.Connection[Any], what: str, who: str, oid: int, privilege: str) -> bool:
    return connection.execute(
        f"SELECT has_{what}_privilege(%s, %s::oid, %s)",  # type: ignore[arg-type]
        (who, oid, privilege),
    ).fetchone() == (True,)


def write() -> None:
    """Make a database, and the page of it."""
    from conftest import _server, new_database
    from servers import debian_bindir

    for server in _server(debian_bindir() or sys.exit("no server of Debian's here")):
        for database in new_database(server):
            PAGE.parent.mkdir(exist_ok=True)
            PAGE.write_text(page(database.connect()))


if __name__ == "__main__":
    write()
