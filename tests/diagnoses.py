"""What the doctor finds in a database, and servers of our own that are ill in a way that a shared one must not be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from conftest import Database
from servers import Server

from shithubd_worker.database import rights, schema
from shithubd_worker.doctor import query
from shithubd_worker.doctor.finding import Finding, Unchecked
from shithubd_worker.doctor.limits import LIMITS
from shithubd_worker.host import shipped

# What the servers of the tests are on purpose: they need not survive a crash of their host.
ON_PURPOSE = {"durability"}


def diagnosed(url: str, check: str, **limits: float) -> list[Finding | Unchecked]:
    """What one check finds, with some limits lowered: no test waits five minutes, or makes a million dead rows."""
    path = shipped.SQL / "doctor" / f"{check}.sql"
    with psycopg.connect(url, autocommit=True) as connection, rights.in_pg_catalog(connection):
        return list(query.found(connection, "public", path, {**LIMITS, **limits}))


def findings(url: str, check: str, **limits: float) -> list[Finding]:
    """The same, where everything must be checked."""
    found = diagnosed(url, check, **limits)
    assert [each for each in found if isinstance(each, Unchecked)] == []
    return [each for each in found if isinstance(each, Finding)]


@contextmanager
def own_server(like: Server, *settings: str) -> Iterator[Server]:
    """A server with settings of its own, and one migrated database `queue`."""
    server = Server(like.bindir, *settings)
    try:
        administrator = Database(server, "postgres")
        administrator.query("CREATE DATABASE queue")
        administrator.close()
        with psycopg.connect(server.url("queue"), autocommit=True) as connection:
            schema.migrate(connection, "public", roles=True)
        yield server
    finally:
        server.remove()
