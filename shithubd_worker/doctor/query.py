"""A check that is a file of sql/doctor: a plain SELECT, with one row for each finding.

- severity: a value of Severity; said: one sentence; evidence: a JSON object; since: a time or NULL
- page: only where one check has several runbooks; else it is the page of the check's name
- or severity 'unchecked', and said: what this login could not look at, and why

Each names the limits that it goes by, like `:old_seconds`, and the queue's schema, like `:"schema"`. So psql can run it
too: `psql -v schema=public -v old_seconds=300 ... -f old-transaction.sql`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.rows import dict_row

from shithubd_worker.database import schema
from shithubd_worker.doctor.finding import PAGES, Finding, Severity, Unchecked
from shithubd_worker.doctor.limits import LIMITS, filled

if TYPE_CHECKING:
    import psycopg


# Of one check. All checks together must answer in about a second.
CHECK_SECONDS = 2.0
LOCK_SECONDS = 0.2
# Names are looked up in pg_catalog alone: a stranger's function or operator must not run with the asker's rights.
_SETTINGS = (
    "SET TRANSACTION READ ONLY; SET LOCAL search_path TO pg_catalog, pg_temp; SET LOCAL jit = off;"
    f" SET LOCAL statement_timeout = {CHECK_SECONDS * 1000:.0f}; SET LOCAL lock_timeout = {LOCK_SECONDS * 1000:.0f}"
)


@contextmanager
def looking(connection: psycopg.Connection) -> Iterator[None]:
    """A transaction that changes nothing, and waits for nobody."""
    with connection.transaction():
        connection.execute(_SETTINGS.encode())
        yield


def found(
    connection: psycopg.Connection, name: str, path: Path, limits: Mapping[str, float] = LIMITS
) -> Iterator[Finding | Unchecked]:
    """Ask. `name` is the schema of the queue. The transaction is the caller's."""
    check = path.stem
    text = schema.of_schema(connection, filled(path.read_text(encoding="utf-8"), limits), name)
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(text.encode()):
            if row["severity"] == "unchecked":
                yield Unchecked(check, row["said"])
                continue
            page = row.get("page") or PAGES[check]
            yield Finding(check, Severity(row["severity"]), row["said"], row["evidence"], row["since"], page)
