"""The checks that ask the database.

They call no function of the queue, so they work on a database whose functions are damaged or missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from shithubd_worker.database import rights
from shithubd_worker.database.failures import explained, forbidden, lost
from shithubd_worker.doctor import allowed, clock, collation, disk, drift, pooler, query
from shithubd_worker.doctor.finding import Finding, Unchecked
from shithubd_worker.doctor.limits import LIMITS
from shithubd_worker.host import shipped

if TYPE_CHECKING:
    Check = Callable[[psycopg.Connection, str], Iterator[Finding | Unchecked]]
    # Opens a connection, with a limit of seconds for each answer.
    Connect = Callable[[float | None], psycopg.Connection]

# The least role that may see what all checks look at.
METRICS = "shithub_metrics"
# It needs a second connection, and no transaction may be open on the first.
POOLER = "pooler"


def checks(limits: Mapping[str, float] = LIMITS) -> Mapping[str, Check]:
    """What is checked in a transaction, by the name of its findings."""
    paths = sorted((shipped.SQL / "doctor").glob("*.sql"))
    files = {path.stem: partial(query.found, path=path, limits=limits) for path in paths}
    return {
        **files,
        "schema-version": drift.version,
        "schema-parts": drift.parts,
        "function-drift": drift.functions,
        "missing-rights": allowed.missing,
        "clock-skew": clock.skew,
        "disk": partial(disk.examine, limits=limits),
        "collation": collation.examine,
    }


def examine(
    connection: psycopg.Connection, name: str, each: str, connect: Connect, limits: Mapping[str, float] = LIMITS
) -> list[Finding | Unchecked]:
    """Run one check. `name` is the schema of the queue. Raises psycopg.OperationalError if the connection is lost."""
    try:
        if each == POOLER:
            return list(pooler.shares(connection, name, connect))
        with query.looking(connection):
            return list(checks(limits)[each](connection, name))
    except psycopg.Error as error:
        if lost(error):
            raise
        why = str(explained(error))
        if forbidden(error):
            with query.looking(connection):
                why += f": {rights.remedy(connection, name, METRICS) or 'ask its owner'}"
        return [Unchecked(each, why, f"{type(error).__name__} ({error.sqlstate})")]
