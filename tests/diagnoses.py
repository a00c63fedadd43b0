"""What the doctor finds in a database, and servers of our own that are ill in a way that a shared one must not be."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from conftest import Database
from psycopg.conninfo import make_conninfo
from servers import Server, free_port, in_memory, system_user
from waiting import eventually

from shithubd_worker.database import schema
from shithubd_worker.doctor import query
from shithubd_worker.doctor.finding import Finding, Unchecked
from shithubd_worker.doctor.limits import LIMITS
from shithubd_worker.host import shipped

# What the servers of the tests are on purpose: they need not survive a crash of their host.
ON_PURPOSE = {"durability"}


def diagnosed(url: str, check: str, **limits: float) -> list[Finding | Unchecked]:
    """What one check finds, with some limits lowered: no test waits five minutes, or makes a million dead rows."""
    path = shipped.SQL / "doctor" / f"{check}.sql"
    with psycopg.connect(url, autocommit=True) as connection, query.looking(connection):
        return list(query.found(connection, "public", path, {**LIMITS, **limits}))


def findings(url: str, check: str, **limits: float) -> list[Finding]:
    """The same, where everything must be checked."""
    found = diagnosed(url, check, **limits)
    assert [each for each in found if isinstance(each, Unchecked)] == []
    return [each for each in found if isinstance(each, Finding)]


@contextmanager
def own_server(like: Server, *settings: str) -> Iterator[Database]:
    """A migrated database in a server with settings of its own."""
    server = Server(like.bindir, *settings)
    database = Database(server, "queue")
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE queue")
        with psycopg.connect(database.url, autocommit=True) as connection:
            schema.migrate(connection, "public", roles=True)
        yield database
    finally:
        database.close()
        server.remove()


class Standby(Server):
    """A hot standby of another server, with lines of postgresql.conf. `slot`: the name of its replication slot."""

    def __init__(self, primary: Server, name: str, *settings: str, slot: str | None = None) -> None:
        self.bindir, self._as, self.port = primary.bindir, primary._as, free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="shw-pg-", dir=in_memory()))
        if os.geteuid() == 0:
            shutil.chown(self.directory, system_user())
        data = self.directory / "data"
        where = make_conninfo(primary.url("postgres"), application_name=name)
        of_slot = ("-C", "-S", slot) if slot else ()
        self._run("pg_basebackup", "-d", where, "-D", str(data), "-R", "-c", "fast", "--no-sync", *of_slot)
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(f"port = {self.port}\nunix_socket_directories = '{self.directory}'\n")
            conf.writelines(f"{setting}\n" for setting in settings)
        self.start()


@contextmanager
def standby(primary: Server, name: str, *settings: str, slot: str | None = None) -> Iterator[Standby]:
    """A standby for a while; its slot goes, too."""
    made = Standby(primary, name, *settings, slot=slot)
    try:
        yield made
    finally:
        made.remove()
        if slot:
            _drop(primary, slot)


def _drop(primary: Server, slot: str) -> None:
    with psycopg.connect(primary.url("postgres"), autocommit=True) as connection:

        def dropped() -> bool:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_name = %s AND NOT active",
                (slot,),
            )
            left = connection.execute("SELECT FROM pg_replication_slots WHERE slot_name = %s", (slot,))
            return left.fetchone() is None

        eventually(dropped, "the slot is gone")
