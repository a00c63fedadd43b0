"""What a migrated database says of our tables and functions, for docs/sql.md. See made_pages.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from made_pages import SQL, Facts, Makers
from prose import LONGEST

from shithubd_worker.database import rights, schema

ROLES = {name.removeprefix("shithub_"): name for name in rights.GRANTED}
_SHORT = {
    "timestamp with time zone": "timestamptz",
    "'-9223372036854775808'::bigint": "-9223372036854775808",
    "CURRENT_TIMESTAMP": "now()",
}
_VOLATILITY = {"i": "IMMUTABLE", "s": "STABLE", "v": "VOLATILE"}
_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
# A worker that runs a job.
_AT_WORK = """
    SELECT register_v1('00000000-0000-0000-0000-000000000001', 'web1', 4711, 'm', 'b', 1, 1, NULL, NULL, '1', 1, '{k}');
    INSERT INTO jobs (kind, state, leased_by, leased_at, worker_id)
    VALUES ('k', 'processing', 'web1:4711', now(), '00000000-0000-0000-0000-000000000001')
"""
_HEADING = re.compile(r"^#+ `(\w+)`$", re.MULTILINE)


def makers(connection: psycopg.Connection[Any]) -> Makers:
    """What the page can ask for, of this database."""
    facts = _Facts(connection)
    return {
        "columns": facts.columns,
        "constraints": facts.constraints,
        "indexes": facts.indexes,
        "function": facts.function,
        "functions": facts.functions,
        "members": facts.members,
        "results": facts.results,
        "refusals": lambda _: refusals(),
    }


def with_section(page: str) -> set[str]:
    """The functions that have a section of their own."""
    return set(_HEADING.findall(page))


def refusals() -> Facts:
    """What functions raise in words of their own, from the text of sql/functions."""
    rows = [
        (message, f"`{path.stem}`", state) for path in schema.function_files() for message, state in _raised_in(path)
    ]
    return Facts(("message", "function", "SQLSTATE"), rows, "what to do")


_STATES = {"invalid_parameter_value": "22023", "object_in_use": "55006"}


def _raised_in(path: Path) -> Iterator[tuple[str, str]]:
    """Message and SQLSTATE of each error that a file raises."""
    for message, rest in re.findall(r"RAISE EXCEPTION '((?:[^']|'')*)'([^;]*);", path.read_text()):
        code = re.search(r"ERRCODE = '(\w+)'", rest)
        state = _STATES[code[1]] if code else "P0001"
        yield f"`{message.replace(chr(39) * 2, chr(39)).replace('%', '...')}`", f"`{state}`"


def raised_by(name: str) -> list[str]:
    """The messages of the errors that a function raises, or a function that it calls. One that has a section of its own
    lists them there."""
    files = {path.stem: path for path in schema.function_files()}
    elsewhere = with_section(SQL.read_text()) - {name}
    asked, left, listed = set(), {name}, set()
    while left:
        asked.add(each := left.pop())
        called = files.keys() & set(re.findall(r"\w+(?=\()", re.sub(r"--.*", "", files[each].read_text())))
        listed |= called & elsewhere
        left |= called - elsewhere - asked
    raised = [message for path in files.values() if path.stem in asked for message, _ in _raised_in(path)]
    return [*raised, *(f"those of [{each}](#{each})" for each in sorted(listed) if raised_by(each))]


def purpose(path: Path) -> str:
    """The first sentence of the comment at the head of a function's file; of a long one, what stands before a colon."""
    head = re.match(r"(?:-- ?.*\n)+", path.read_text())
    assert head is not None, f"{path} begins without a comment"
    text = " ".join(line.removeprefix("--").strip() for line in head[0].splitlines())
    first = re.split(r"(?<=[.?!]) ", text)[0]
    if len(first.split()) > LONGEST:
        first = f"{first.partition(': ')[0].rstrip('.')}."
    return re.sub(r"(?<![`\w])([a-z]+(?:_[a-z]+)*_v\d)(?!`)", r"`\1`", first).replace("|", "\\|")


def _plain(text: str) -> str:
    for long, short in _SHORT.items():
        text = text.replace(long, short)
    return re.sub(r"('[^']*'|NULL)::[a-z ]+(\[\])?", r"\1", text)


class _Facts:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def columns(self, table: str) -> Facts:
        """The columns of a table; of one that programs write to, also who may."""
        rows = self._connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text, attgenerated::text,"
            " pg_get_expr(adbin, adrelid), relkind = 'v' FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
            " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (table,),
        ).fetchall()
        found = []
        for name, kind, not_null, identity, generated, default, view in rows:
            cells = [f"`{name}`", f"`{_plain(kind)}`"]
            if not view:
                cells.append(_default(not_null, identity, generated, default))
            if table == "jobs":
                cells.append(self._writers(table, name))
            found.append(cells)
        head = ["column", "type", "default", "who may write it"]
        return Facts(head[: len(found[0])], found, "what it is")

    def constraints(self, table: str) -> Facts:
        """The rules of a table that a row can break."""
        rows = self._connection.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = %s::regclass AND contype IN ('c', 'p', 'u', 'f') ORDER BY contype, conname",
            (table,),
        ).fetchall()
        found = [(f"`{name}`", f"`{_plain(rule)}`") for name, rule in rows]
        return Facts(("constraint", "rule"), found, "in words")

    def indexes(self, table: str) -> Facts:
        """The indexes of a table."""
        rows = self._connection.execute(
            "SELECT relname, pg_get_indexdef(oid) FROM pg_index JOIN pg_class ON oid = indexrelid"
            " WHERE indrelid = %s::regclass ORDER BY relname",
            (table,),
        ).fetchall()
        found = [(f"`{name}`", f"`{_plain(text.partition(' USING ')[2])}`") for name, text in rows]
        return Facts(("index", "on"), found, "who needs it")

    def function(self, name: str) -> str:
        """How it is called, what it returns, who may."""
        return "\n".join(f"- {line}" for line in self._about(name))

    def functions(self, folder: str) -> Facts:
        """Those of a folder of sql/functions that have no section of their own."""
        with_own = with_section(SQL.read_text())
        rows = []
        for path in schema.function_files():
            if path.parent.name == folder and path.stem not in with_own:
                call, returns, *_ = self._facts(path.stem)
                rows.append((f"`{call}`", returns, ", ".join(self._callers(path.stem)) or "nobody", purpose(path)))
        return Facts(("function", "returns", "roles", "what for"), rows)

    def members(self, name: str) -> Facts:
        """The members of the JSON object that a function returns, without the columns of `workers`."""
        known = {column for (column,) in self._connection.execute(_COLUMNS, ("workers",)).fetchall()}
        with self._connection.transaction(force_rollback=True):
            self._connection.execute(_AT_WORK)
            rows = self._connection.execute(f"SELECT * FROM {name}()").fetchall()  # type: ignore[arg-type]
        left = known if name == "workers_v1" else set()
        return Facts(("member",), [(f"`{member}`",) for member in rows[0][0] if member not in left], "what it is")

    def results(self, name: str) -> Facts:
        """The columns that a function returns."""
        _, returns, *_ = self._facts(name)
        columns = [column.split(" ", 1) for column in re.findall(r"`([^`]+)`", returns)]
        return Facts(("column", "type"), [(f"`{name}`", f"`{kind}`") for name, kind in columns], "what it is")

    def _about(self, name: str) -> list[str]:
        call, returns, volatility, definer = self._facts(name)
        roles = ", ".join(f"`shithub_{role}`" for role in self._callers(name)) or "nobody"
        return [
            f"Call: `{call}`",
            f"Returns: {returns}",
            f"Roles: {roles}",
            f"[Errors](#errors): {', '.join([*raised_by(name), 'those of PostgreSQL'])}",
            f"`{volatility}`; runs with the rights of the {'owner' if definer else 'caller'}",
        ]

    def _facts(self, name: str) -> tuple[str, str, str, bool]:
        [(arguments, result, many, row, volatility, definer)] = self._connection.execute(
            "SELECT pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), proretset,"
            " coalesce(proallargtypes IS NOT NULL OR typtype = 'c', false), provolatile::text, prosecdef"
            " FROM pg_proc p JOIN pg_type t ON t.oid = prorettype"
            " WHERE proname = %s AND pronamespace = 'public'::regnamespace",
            (name,),
        ).fetchall()
        taken, *given = _plain(arguments).replace(" DEFAULT ", " = ").split(", OUT ")
        returns = f"one row of {_listed(given)}" if given else _returns(_plain(result), many=many, row=row)
        return f"{name}({taken})", returns, _VOLATILITY[volatility], definer

    def _callers(self, name: str) -> list[str]:
        rows = self._connection.execute(
            "SELECT role FROM unnest(%s::text[]) WITH ORDINALITY r (role, n), pg_proc p"
            " WHERE proname = %s AND pronamespace = 'public'::regnamespace"
            " AND has_function_privilege(%s || role, p.oid, 'EXECUTE') ORDER BY n",
            (list(ROLES), name, "shithub_"),
        ).fetchall()
        return [role for (role,) in rows]

    def _writers(self, table: str, column: str) -> str:
        parts = []
        for privilege in ("INSERT", "UPDATE"):
            rows = self._connection.execute(
                "SELECT role FROM unnest(%s::text[]) WITH ORDINALITY r (role, n)"
                " WHERE has_column_privilege(%s || role, %s, %s, %s) ORDER BY n",
                (list(ROLES), "shithub_", table, column, privilege),
            ).fetchall()
            if rows:
                parts.append(f"{privilege}: {', '.join(role for (role,) in rows)}")
        return "; ".join(parts) or "the owner"


def _default(not_null: bool, identity: str, generated: str, default: str | None) -> str:
    if identity:
        return "the next number" + (", always" if identity == "a" else "")
    if generated:
        return "made by the database"
    if default is None:
        return "required" if not_null else "null"
    return f"`{_plain(default)}`" + ("" if not_null else ", may be null")


def _listed(columns: list[str]) -> str:
    return ", ".join(f"`{column}`" for column in columns)


def _returns(result: str, *, many: bool, row: bool) -> str:
    if result.startswith("TABLE("):
        return f"rows of {_listed(result.removeprefix('TABLE(').removesuffix(')').split(', '))}"
    result = result.removeprefix("SETOF ")
    if result == "void":
        return "nothing"
    if many:
        return f"rows of `{result}`"
    return f"one row of `{result}`" if row else f"`{result}`"
