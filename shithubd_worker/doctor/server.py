"""The checks that ask the database.

They call no function of the queue, so they work on a database whose functions are damaged or missing. Most of them are
a file of sql/doctor (query.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

import psycopg

from shithubd_worker.database import rights
from shithubd_worker.database.failures import explained, forbidden, lost
from shithubd_worker.doctor import allowed, clock, disk, drift, query
from shithubd_worker.doctor.finding import Finding, Unchecked
from shithubd_worker.host import shipped

if TYPE_CHECKING:
    Check = Callable[[psycopg.Connection, str], Iterator[Finding | Unchecked]]

# Of one check. All checks together must answer in about a second.
CHECK_SECONDS = 2.0
LOCK_SECONDS = 0.2
# The least role that may see what all checks look at.
METRICS = "shithub_metrics"
# Names are looked up in pg_catalog alone: a stranger's function or operator must not run with the asker's rights.
_SETTINGS = (
    "SET TRANSACTION READ ONLY; SET LOCAL search_path TO pg_catalog, pg_temp; SET LOCAL jit = off;"
    f" SET LOCAL statement_timeout = {CHECK_SECONDS * 1000:.0f}; SET LOCAL lock_timeout = {LOCK_SECONDS * 1000:.0f}"
)


@cache
def checks() -> Mapping[str, Check]:
    """What is checked, by the name of its findings."""
    files = {path.stem: partial(query.found, path=path) for path in sorted((shipped.SQL / "doctor").glob("*.sql"))}
    return {
        "schema-version": drift.version,
        "schema-parts": drift.parts,
        "function-drift": drift.functions,
        "missing-rights": allowed.missing,
        "clock-skew": clock.skew,
        **files,
        "disk": disk.examine,
    }


@contextmanager
def looking(connection: psycopg.Connection) -> Iterator[None]:
    """A transaction that changes nothing, and waits for nobody."""
    with connection.transaction():
        connection.execute(_SETTINGS.encode())
        yield


def examine(connection: psycopg.Connection, name: str, each: str) -> list[Finding | Unchecked]:
    """Run one check. `name` is the schema of the queue. Raises psycopg.OperationalError if the connection is lost."""
    try:
        with looking(connection):
            return list(checks()[each](connection, name))
    except psycopg.Error as error:
        if lost(error):
            raise
        why = str(explained(error))
        if forbidden(error):
            with looking(connection):
                why += f": {rights.remedy(connection, name, METRICS) or 'ask its owner'}"
        return [Unchecked(each, why)]
