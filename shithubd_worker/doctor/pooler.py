"""A pooler between here and the database that shares its sessions (PgBouncer's pool_mode = transaction)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from shithubd_worker.database import pooled, schema
from shithubd_worker.doctor import query
from shithubd_worker.doctor.finding import Finding, Severity, finding

if TYPE_CHECKING:
    import psycopg

# A worker beats every few seconds. After 30 s it no longer counts as alive (lives_v1).
_LIVES = """SELECT EXISTS (SELECT FROM :"schema".beats
    WHERE beat_at > clock_timestamp() - interval '30 s' AND beat_at < clock_timestamp() + interval '30 s')"""


def shares(
    connection: psycopg.Connection, name: str, another: Callable[[float], psycopg.Connection]
) -> Iterator[Finding]:
    """Does a pooler share the session of this connection? `another` opens a second one, with a limit of seconds for
    each answer. No transaction may be open. `name` is the queue's schema.

    Commands work through such a pooler. A worker that waits to be woken does not start: it needs --poll-only, or the
    server's own address. So it matters most while no worker lives.
    """
    if not pooled.shared(connection, another):
        return
    with query.looking(connection):
        row = connection.execute(schema.of_schema(connection, _LIVES, name).encode()).fetchone()
    lives = row is not None and row[0]
    end = "a worker needs --poll-only there" if lives else "no worker lives, and without --poll-only none starts there"
    yield finding(
        "pooler",
        Severity.NOTICE if lives else Severity.WARNING,
        f"a pooler shares its sessions between here and the database: {end}",
        {"host": connection.info.host, "port": connection.info.port, "a_worker_lives": lives},
    )
