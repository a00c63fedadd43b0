"""The database's disk: what fills it, and how much is free. Only the database's own host can see the free space."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shithubd_worker.doctor import query
from shithubd_worker.doctor.finding import Finding, Severity, Unchecked, finding
from shithubd_worker.doctor.limits import LIMITS
from shithubd_worker.host import shipped

if TYPE_CHECKING:
    import psycopg

# Little is less than both: a part of the disk, and bytes. PostgreSQL stops when its log has no room.
_LITTLE = {Severity.CRITICAL: (0.03, 1 << 30), Severity.WARNING: (0.10, 10 << 30)}

# Only members of pg_read_all_settings see where the data are, only those of pg_monitor see the size of the log. A
# tablespace may be on another disk.
_SEEN = """
    SELECT pg_backend_pid(), current_database()::text, quote_ident(current_user),
           (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
           ARRAY(SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''),
           has_function_privilege('pg_ls_waldir()', 'EXECUTE'), pg_size_bytes(current_setting('max_wal_size'))"""


def examine(
    connection: psycopg.Connection, name: str, limits: Mapping[str, float] = LIMITS
) -> Iterator[Finding | Unchecked]:
    """All that can be seen of the disk from here. `name` is the schema of the queue."""
    yield from query.found(connection, name, shipped.SQL / "doctor" / "disk.sql", limits)
    row = connection.execute(_SEEN).fetchone()
    assert row is not None  # noqa: S101
    pid, database, login, data, tablespaces, may_list, usual = row
    if may_list:
        yield from _log(connection, usual, limits["much_wal_bytes"])
    here = _is_here(pid, database)
    if here and data is not None:
        yield from free(Path(data), *map(Path, tablespaces))
    elif not here:
        yield Unchecked("disk", "only in part: free space can be seen only on the database's own host, with df")
    if not may_list or (here and data is None):
        why = "may not see how large the write-ahead log is, and where the data are"
        yield Unchecked("disk", f"only in part: the login {login} {why}: GRANT pg_monitor TO {login}")


def _log(connection: psycopg.Connection, usual: int, much: float) -> Iterator[Finding]:
    """Is the write-ahead log larger than its settings make it? Then a slot keeps it, a failing archive, or
    wal_keep_size."""
    row = connection.execute("SELECT sum(size)::bigint FROM pg_ls_waldir()").fetchone()
    size = (row and row[0]) or 0
    if size > 2 * usual + much:
        said = f"the write-ahead log has {size >> 20} MiB, much more than max_wal_size: something keeps it"
        yield finding("disk", Severity.WARNING, said, {"bytes": size, "max_wal_size": usual})


def free(data: Path, *tablespaces: Path) -> Iterator[Finding | Unchecked]:
    """Is there room on the disks of the data, of the write-ahead log and of each tablespace?"""
    seen = set()
    for path in (data, data / "pg_wal", *tablespaces):
        try:
            device, disk = path.stat().st_dev, os.statvfs(path)
        except PermissionError:  # pg_wal, for all but the server's user: most often it is on the disk of the data
            continue
        except OSError as error:
            yield Unchecked("disk", f"only in part: {path}: {error.strerror}")
            continue
        if device not in seen:
            seen.add(device)
            yield from _judged(path, disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)


def _judged(path: Path, left: int, size: int) -> Iterator[Finding]:
    for severity, (part, little) in _LITTLE.items():
        if left < min(part * size, little):
            said = f"the disk of {path} has only {left >> 20} MiB free: PostgreSQL stops when it is full"
            yield finding("disk", severity, said, {"path": str(path), "free": left, "size": size})
            return


def _is_here(pid: int, database: str) -> bool:
    """Does the server run on this host? An address does not tell: behind a tunnel it is the loopback, too."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return title.startswith("postgres: ") and database in title
