"""The checks that ask the database. Each is one file of sql/doctor, a plain SELECT.

They call no function of the queue, so they work on a database whose functions are damaged or missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from shithubd_worker.database import schema
from shithubd_worker.database.failures import explained, lost
from shithubd_worker.doctor.finding import Finding, Severity, Unchecked
from shithubd_worker.host import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of one check. All checks together must answer in about a second.
CHECK_SECONDS = 2.0
LOCK_SECONDS = 0.2


def checks() -> dict[str, Path]:
    """The file of each check, by the name of its finding."""
    return {path.stem: path for path in sorted((shipped.SQL / "doctor").glob("*.sql"))}


def examine(connection: psycopg.Connection, name: str) -> Iterator[Finding | Unchecked]:
    """Run the checks. `name` is the schema of the queue. Raises psycopg.OperationalError if the connection is lost."""
    for check, path in checks().items():
        text = schema.of_schema(connection, path.read_text(encoding="utf-8"), name)
        try:
            with connection.transaction():
                connection.execute("SET TRANSACTION READ ONLY")
                connection.execute(f"SET LOCAL statement_timeout = {CHECK_SECONDS * 1000:.0f}")
                connection.execute(f"SET LOCAL lock_timeout = {LOCK_SECONDS * 1000:.0f}")
                rows = connection.execute(text.encode()).fetchall()
        except psycopg.Error as error:
            if lost(error):
                raise
            yield Unchecked(check, str(explained(error)))
            continue
        for severity, said, evidence, since in rows:
            yield Finding(check, Severity(severity), said, evidence, since)
