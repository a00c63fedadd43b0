"""The order of text: an upgrade of the operating system can change it, and indexes keep the old one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shithubd_worker.doctor.finding import Finding, Severity, finding

if TYPE_CHECKING:
    import psycopg

# PostgreSQL keeps the version since 15. An order that never changes, as that of C, has none.
_SINCE = 150000
_VERSIONS = """
    SELECT datcollversion, pg_database_collation_actual_version(oid), quote_ident(datname) FROM pg_database
     WHERE datname = current_database() AND datcollversion IS NOT NULL
       AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)"""


def examine(connection: psycopg.Connection, _name: str) -> Iterator[Finding]:
    """Were the indexes built with another order than the one of today? The lease looks kinds up in such an index, and
    may not find their jobs."""
    if connection.info.server_version < _SINCE:
        return
    for built, now, database in connection.execute(_VERSIONS).fetchall():
        said = (
            "the operating system sorts text in another way than when the indexes were built, so leases may miss jobs:"
            f" REINDEX DATABASE CONCURRENTLY {database}, then ALTER DATABASE {database} REFRESH COLLATION VERSION"
        )
        yield finding("collation", Severity.CRITICAL, said, {"built_with": built, "version_now": now})
