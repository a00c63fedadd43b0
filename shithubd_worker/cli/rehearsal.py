"""A dry run that happens, and is rolled back: so it says exactly what a run would do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shithubd_worker.cli.screen import line, say

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations


@contextmanager
def rolled_back(operations: Operations) -> Iterator[None]:
    """What the session changes inside is undone at the end. Meanwhile others wait for its locks, as in a run."""
    with operations.connection.transaction(force_rollback=True):
        yield


def say_sql(call: str, schema: str) -> None:
    """Show what was called in the dry run."""
    from psycopg import sql

    line(f"the SQL: SELECT * FROM {sql.Identifier(schema).as_string()}.{call}")  # noqa: S608 (nobody runs it here)
    say("this was a dry run: nothing is changed")


def literal(text: str) -> str:
    """A text as SQL writes it."""
    from psycopg import sql

    return sql.Literal(text).as_string()
