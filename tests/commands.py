"""Commands as an operator sees them: a process each, its exit code, and one clear line."""

from __future__ import annotations

import json
import re
import socket
from datetime import datetime, timedelta
from pathlib import Path

import nursery
import pytest
from conftest import PATIENCE, Database, new_database

HOST = socket.gethostname()
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def one_database(server):
    """One database for all of these tests. Each test finds its tables empty."""
    yield from new_database(server)


@pytest.fixture(name="database")
def emptied_database(one_database):
    """Used in place of one database for each test, which would take longer than the tests."""
    with one_database.connect() as connection:
        for table in ("jobs", "job_history", "holds", "audit", "workers"):
            connection.execute(f"DELETE FROM {table}")
    return one_database


class Command:
    """Runs `shithubd-worker ARGS`. No command prints a traceback, or escape codes without a terminal."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def __call__(self, *arguments, code=0, input=None, env=None, cwd=HERE, without_url=False):
        environment = self.database.environment() | (env or {})
        if without_url:
            del environment["SHITHUBD_WORKER_DATABASE_URL"]
        done = nursery.run([*map(str, arguments)], env=environment, input=input or "", cwd=cwd, timeout=PATIENCE)
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        assert "\x1b" not in done.stderr + done.stdout
        assert done.returncode == code, f"{arguments} exited {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def json(self, *arguments, **settings):
        """With --json: the whole stdout is one value."""
        return json.loads(self(*arguments, "--json", **settings).stdout)

    def refused(self, *arguments, code, **settings):
        """The one line with which the command refuses: on stderr (after click's usage lines, if any), with nothing on
        stdout."""
        done = self(*arguments, code=code, **settings)
        assert done.stdout == ""
        lines = [line for line in done.stderr.splitlines() if not re.match(r"(Usage:|Try '|$)", line)]
        assert len(lines) == 1, done.stderr
        return lines[0]


@pytest.fixture(name="command")
def exact_command(database):
    return Command(database)


def last_line(done):
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


def moment(text):
    """A time in JSON: ISO 8601, in UTC."""
    when = datetime.fromisoformat(text)
    assert when.utcoffset() == timedelta(0), text
    return when


@pytest.fixture(name="module")
def handlers_module(tmp_path):
    """Write a module of handlers. Returns the environment in which it is found."""

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(f"from shithubd_worker import Registry\nregistry = Registry()\n{text}")
        return {"PYTHONPATH": f"{HERE}:{tmp_path}"}

    return write
