"""Whether the database has what this release made: its tables, indexes, constraints and triggers, and its functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import psycopg
from psycopg import sql

from shithubd_worker.database import inventory, routines, schema
from shithubd_worker.doctor.finding import Finding, Severity, Unchecked, finding
from shithubd_worker.errors import SchemaMismatch

_ANOTHER = "the schema is not that of this release: see schema-version"
_CONSTRAINT = re.compile(r"^(?!\s*--)(.*?)\b(DROP )?CONSTRAINT (?:IF EXISTS )?(\w+)", re.MULTILINE)
_TRIGGER = re.compile(r"^CREATE (?:OR REPLACE )?TRIGGER (\w+)", re.MULTILINE)


def version(connection: psycopg.Connection, name: str) -> Iterator[Finding]:
    """Can this release work with the schema?"""
    try:
        schema.check(connection, name)
    except SchemaMismatch as error:
        yield finding("schema-version", Severity.CRITICAL, "; ".join(error.args), {"schema": name})


def parts(connection: psycopg.Connection, name: str) -> Iterator[Finding | Unchecked]:
    """What stops no work at once, and makes it slow or wrong: lost indexes, constraints and triggers."""
    if not _is_of_this_release(connection, name):
        yield Unchecked("schema-parts", _ANOTHER)
        return
    texts = [each.text for each in schema.migrations()]
    indexes = [part.name for part in schema.parts(schema.newest_version()) if part.kind == "index"]
    found = {
        "indexes": connection.execute(
            "SELECT c.relname::text, i.indisvalid AND i.indisready FROM pg_catalog.pg_index i"
            " JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
            " WHERE c.relnamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident(%s))",
            (name,),
        ),
        "constraints": connection.execute(
            "SELECT conname::text, convalidated FROM pg_catalog.pg_constraint"
            " WHERE connamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident(%s))",
            (name,),
        ),
        "triggers": connection.execute(
            "SELECT t.tgname::text, t.tgenabled <> 'D' FROM pg_catalog.pg_trigger t"
            " JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid"
            " WHERE c.relnamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident(%s))",
            (name,),
        ),
    }
    wanted = {
        "indexes": indexes,
        "constraints": constraints(texts),
        "triggers": _TRIGGER.findall(schema.functions()),
    }
    for what, names in wanted.items():
        good = {each for each, works in found[what].fetchall() if works}
        if lost := sorted(set(names) - good):
            said = f"the schema lacks {len(lost)} of its {what}, or they are switched off or not valid"
            yield finding("schema-parts", Severity.WARNING, said, {what: lost})


def constraints(texts: Iterable[str]) -> list[str]:
    """The named constraints that stand after migrations with these texts."""
    standing: dict[str, None] = {}
    for text in texts:
        for _, drop, name in _CONSTRAINT.findall(text):
            if drop:
                standing.pop(name, None)
            else:
                standing[name] = None
    return list(standing)


def functions(connection: psycopg.Connection, name: str) -> Iterator[Finding | Unchecked]:
    """Functions that are missing, that somebody replaced, and that another one of the same name stands beside."""
    if not _is_of_this_release(connection, name):
        yield Unchecked("function-drift", _ANOTHER)
        return
    made_by = connection.execute(
        sql.SQL("SELECT functions FROM {}").format(sql.Identifier(name, inventory.MARKER))
    ).fetchone()
    ours = made_by is not None and made_by[0] == schema.functions_digest(name)
    missing, changed, beside = routines.compare(connection, name, schema.texts(connection, name))
    if missing:
        said = f"the schema lacks {len(missing)} function(s) of this release: run `shithubd-worker migrate`"
        yield finding("function-drift", Severity.CRITICAL, said, {"missing": missing})
    if changed and ours:
        said = f"{len(changed)} function(s) are not as this release made them: run `shithubd-worker migrate`"
        yield finding("function-drift", Severity.WARNING, said, {"changed": changed})
    elif not ours:
        said = "another release made the functions: `shithubd-worker migrate` makes those of this one"
        yield finding("function-drift", Severity.NOTICE, said, {"different": len(changed)})
    if beside:
        said = f"{len(beside)} function(s) have a name of the queue's and are not its own: calls may go to them"
        yield finding("function-drift", Severity.WARNING, said, {"others": beside})


def _is_of_this_release(connection: psycopg.Connection, name: str) -> bool:
    """Has the schema the version of this release, and all of its tables?"""
    try:
        return schema.find(connection, name).version == schema.newest_version()
    except SchemaMismatch:
        return False
