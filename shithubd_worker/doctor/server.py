"""The checks that ask the database. Each is one file of sql/doctor, a plain SELECT, and has one row for each finding:

- severity: a value of Severity; said: one sentence; evidence: a JSON object; since: a time or NULL
- page: only where one check has several runbooks; else it is the page of the check's name

They call no function of the queue, so they work on a database whose functions are damaged or missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg.rows import dict_row

from shithubd_worker.database import schema
from shithubd_worker.database.failures import explained, lost
from shithubd_worker.doctor.finding import PAGES, Finding, Severity, Unchecked
from shithubd_worker.host import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of one check. All checks together must answer in about a second.
CHECK_SECONDS = 2.0
LOCK_SECONDS = 0.2
# Names are looked up in pg_catalog alone: a stranger's function or operator must not run with the asker's rights.
_SETTINGS = (
    "SET TRANSACTION READ ONLY; SET LOCAL search_path TO pg_catalog, pg_temp; SET LOCAL jit = off;"
    f" SET LOCAL statement_timeout = {CHECK_SECONDS * 1000:.0f}; SET LOCAL lock_timeout = {LOCK_SECONDS * 1000:.0f}"
)


def checks() -> dict[str, Path]:
    """The file of each check, by the name of its finding."""
    return {path.stem: path for path in sorted((shipped.SQL / "doctor").glob("*.sql"))}


def examine(connection: psycopg.Connection, name: str) -> Iterator[Finding | Unchecked]:
    """Run the checks. `name` is the schema of the queue. Raises psycopg.OperationalError if the connection is lost."""
    for check, path in checks().items():
        text = schema.of_schema(connection, path.read_text(encoding="utf-8"), name)
        try:
            with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(_SETTINGS.encode())
                rows = cursor.execute(text.encode()).fetchall()
        except psycopg.Error as error:
            if lost(error):
                raise
            yield Unchecked(check, str(explained(error)))
            continue
        for row in rows:
            severity, page = Severity(row["severity"]), row.get("page") or PAGES[check]
            yield Finding(check, severity, row["said"], row["evidence"], row["since"], page)
