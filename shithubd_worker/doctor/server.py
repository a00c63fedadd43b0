"""The checks that ask the database.

They call no function of the queue, so they work on a database whose functions are damaged or missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from shithubd_worker.database.failures import explained, lost
from shithubd_worker.doctor import query
from shithubd_worker.doctor.finding import Finding, Unchecked
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
        try:
            with connection.transaction():
                connection.execute(_SETTINGS.encode())
                found = list(query.found(connection, name, path))
        except psycopg.Error as error:
            if lost(error):
                raise
            found = [Unchecked(check, str(explained(error)))]
        yield from found
