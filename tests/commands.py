"""Commands as an operator meets them: a process each, its exit code, and one clear line."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from conftest import PATIENCE, Database, new_database

HOST = socket.gethostname()
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def one_database(server):
    """One database for all of these tests; each finds its tables empty."""
    yield from new_database(server)


@pytest.fixture(name="database")
def emptied_database(one_database):
    """In place of a database a test, which would take longer than the tests."""
    with one_database.connect() as connection:
        for table in ("jobs", "job_history", "holds", "audit", "workers"):
            connection.execute(f"DELETE FROM {table}")
    return one_database


# Most of a short command's time is spent on importing. So one process imports, and forks for each command: what runs
# is a process of its own, with its own descriptors, environment and directory.
NURSERY = """
import json, os, socket, sys
import psycopg.types.json, rich.console, rich.markup, rich.table
from shithubd_worker import registry
from shithubd_worker.database import operations, schema
from shithubd_worker.cli import main
operations.LOGINUID = operations.Path("/dev/null")  # of whoever runs the tests
orders = socket.socket(fileno=int(sys.argv[1]))
while order := orders.recv(1 << 20):
    order = json.loads(order)
    child = os.fork()
    if child == 0:
        for number, (path, flags) in enumerate(zip(order["files"], (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY))):
            os.dup2(os.open(path, flags), number)
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["cwd"])
        sys.path[:0] = order["env"]["PYTHONPATH"].split(":")
        sys.argv = ["shithubd-worker", *order["arguments"]]
        main()
    orders.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
"""


@pytest.fixture(scope="module")
def nursery():
    """Where commands are forked: a socket that takes orders, one at a time, and gives back the exit code."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE)
    with ours, theirs:
        process = subprocess.Popen([sys.executable, "-c", NURSERY, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        theirs.close()
        yield ours
        ours.shutdown(socket.SHUT_RDWR)
        assert process.wait(PATIENCE) == 0


class Command:
    """Runs `shithubd-worker ARGS`. Whatever it is: no traceback, and no escape codes where there is no terminal."""

    def __init__(self, database: Database, nursery: socket.socket, directory: Path) -> None:
        self.database = database
        self.nursery = nursery
        self.files = [directory / name for name in ("stdin", "stdout", "stderr")]

    def __call__(self, *arguments, code=0, input=None, env=None, cwd=HERE, without_url=False):
        environment = self.database.environment() | (env or {})
        if without_url:
            del environment["SHITHUBD_WORKER_DATABASE_URL"]
        for file, text in zip(self.files, (input or "", "", ""), strict=True):
            file.write_text(text)
        order = {"arguments": list(map(str, arguments)), "env": environment, "cwd": str(cwd)}
        self.nursery.send(json.dumps({**order, "files": list(map(str, self.files))}).encode())
        exited = int(self.nursery.recv(100))
        out, err = (file.read_text(errors="surrogateescape") for file in self.files[1:])
        done = subprocess.CompletedProcess(arguments, exited, out, err)
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        assert "\x1b" not in done.stderr + done.stdout
        assert done.returncode == code, f"{arguments} exited {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def json(self, *arguments, **settings):
        """With --json: all of stdout is one value."""
        return json.loads(self(*arguments, "--json", **settings).stdout)

    def refused(self, *arguments, code, **settings):
        """It says no in one line on stderr (after click's usage lines, if any) and nothing on stdout: that line."""
        done = self(*arguments, code=code, **settings)
        assert done.stdout == ""
        lines = [line for line in done.stderr.splitlines() if not re.match(r"(Usage:|Try '|$)", line)]
        assert len(lines) == 1, done.stderr
        return lines[0]


@pytest.fixture(name="command")
def forked_command(database, nursery, tmp_path_factory):
    return Command(database, nursery, tmp_path_factory.mktemp("command"))


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
    """Write a module of handlers; the environment in which it is found."""

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(f"from shithubd_worker import Registry\nregistry = Registry()\n{text}")
        return {"PYTHONPATH": f"{HERE}:{tmp_path}"}

    return write
