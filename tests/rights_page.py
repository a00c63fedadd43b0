"""docs/rights.md: who may do what, as a database says it. `make pages` writes the page; a test compares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from made_pages import Facts, Makers, filled

PAGE = Path(__file__).parents[1] / "docs/rights.md"
# Of each a column; PUBLIC is a login that is a member of nothing.
WHO = ("shithub_worker", "shithub_enqueue", "shithub_operator", "shithub_metrics", "shithub_migrate", "public")
TABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
COLUMN = ("SELECT", "INSERT", "UPDATE", "REFERENCES")
SEQUENCE = ("USAGE", "SELECT", "UPDATE")


def page(connection: psycopg.Connection[Any]) -> str:
    """The whole page, as this database has it: its words stay."""
    return filled(PAGE.read_text(), makers(connection))


def makers(connection: psycopg.Connection[Any]) -> Makers:
    """What the page can ask for, of this database."""

    def tables(_: str) -> Facts:
        relations = connection.execute(
            "SELECT c.oid, c.relname, c.relkind = 'S' FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid"
            " WHERE relnamespace = 'public'::regnamespace AND relkind NOT IN ('i', 'I', 't', 'c')"
            " AND c.relname !~ '^job_history_(7d|90d)_[0-9]{8}$' ORDER BY 3, 2"
        ).fetchall()
        return _matrix(
            (f"`{name}`", [(_sequence if sequence else _table)(connection, who, oid) for who in WHO])
            for oid, name, sequence in relations
        )

    def functions(_: str) -> Facts:
        found = connection.execute(
            "SELECT oid, proname, prosecdef FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 2, 1"
        ).fetchall()
        return _matrix(
            (
                f"`{name}`{' †' if definer else ''}",
                ["x" if _may(connection, "function", who, oid, "EXECUTE") else "" for who in WHO],
            )
            for oid, name, definer in found
        )

    def schema(_: str) -> Facts:
        [(oid,)] = connection.execute("SELECT 'public'::regnamespace::oid").fetchall()
        return _matrix(
            (right, ["x" if _may(connection, "schema", who, oid, right) else "" for who in WHO])
            for right in ("USAGE", "CREATE")
        )

    return {"tables": tables, "functions": functions, "schema": schema}


def days_with_rights(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """The days of the history on which a role other than the owner has a right."""
    return connection.execute(
        "SELECT relname, w FROM pg_class, unnest(%s::text[]) w WHERE relname ~ '^job_history_(7d|90d)_[0-9]{8}$'"
        " AND has_any_column_privilege(w, oid, 'SELECT, INSERT, UPDATE, REFERENCES')"
        " OR relname ~ '^job_history_(7d|90d)_[0-9]{8}$' AND has_table_privilege(w, oid, 'DELETE, TRUNCATE, TRIGGER')",
        (list(WHO),),
    ).fetchall()


def _matrix(rows: Iterable[tuple[str, list[str]]]) -> Facts:
    names = [who.removeprefix("shithub_") if who != "public" else "PUBLIC" for who in WHO]
    return Facts(("", *names), [(name, *cells) for name, cells in rows])


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
