"""Databases without our schema, and with it alone; and a worker without a process in them."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
from bare import BareWorker
from conftest import new_database

from shithubd_worker.database import schema
from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.host.identity import identify
from shithubd_worker.model import How, Outcome, Registration
from shithubd_worker.registry import Registry

SERVERS = ["debian", "embedded"]


def server_of(request):
    return request.getfixturevalue("server" if request.param == "debian" else "embedded_server")


def fresh_database(server):
    """A database without anything in it."""
    return new_database(server, "template1")


@pytest.fixture(name="blank", params=SERVERS)
def blank_database(request):
    """An empty database, on each of the servers."""
    yield from fresh_database(server_of(request))


@pytest.fixture(name="contract", scope="module", params=SERVERS)
def contract_database(request):
    """One migrated database on each of the servers, for tests that leave nothing behind."""
    for database in fresh_database(server_of(request)):
        migrate(database)
        yield database


def migrate(database, name="public"):
    with database.connect() as connection:
        return schema.migrate(connection, name)


def former_release(monkeypatch, version):
    """From now on, `migrate` is that of a release of this version: with today's functions on its tables, but for those
    that came later: without a version in their names, or with a later table in their arguments or result."""
    known = schema.migrations()[:version]
    later = {part.name for part in schema.parts(schema.newest_version())} - {
        part.name for part in schema.parts(version)
    }
    needs = re.compile(rf"(?:RETURNS|SETOF|p_\w+|OUT \w+) (?:{'|'.join(later)})\b")
    files = [path for path in schema.function_files() if "_v" in path.stem and not needs.search(path.read_text())]
    text = "\n".join(path.read_text() for path in files)
    monkeypatch.setattr(schema, "migrations", lambda: known)
    monkeypatch.setattr(schema, "function_names", lambda: tuple(path.stem for path in files))
    monkeypatch.setattr(schema, "functions", lambda: text)
    monkeypatch.setattr(schema, "functions_digest", schema.functions_digest.__wrapped__)  # without its cache


class Bare:
    """A worker without a process: its row and its queue, driven by hand."""

    def __init__(self, url, name):
        connect = connector(url, "bare")
        registry = Registry()
        registry.handler("k")(lambda job: None)
        self.kinds = list(registry.values())
        me = identify()
        self.beat = ControlSession(connect, name)
        self.beat.register(Registration(me, ["k"]))
        self.me = me
        self.worker = BareWorker(url, name, me.id)
        self.queue = self.worker.queue

    def settle(self, lease, how=How.OK, retention="7d"):
        return self.worker.settle(lease, Outcome(how, "why", 5.0), retention)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with closing(self.queue), closing(self.beat):
            self.beat.unregister(self.me.id, [])
