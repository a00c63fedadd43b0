"""Commands that are blocked by somebody's lock: many at once, each as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from conftest import PATIENCE, Database

# This many at once: enough to wait together, few enough to get their turn on two cores.
AT_ONCE = 8
# A short command spends most of its time on imports. So one process imports, and forks for each command.
FORKS = """
import json, os, sys
import psycopg.types.json, rich.console, rich.markup, rich.table
from shithubd_worker import registry
from shithubd_worker.database import blockers, operations, schema
from shithubd_worker.cli import main
orders, at_once = json.load(sys.stdin)
running, codes = {}, {}
def end_one():
    child, status = os.wait()
    codes[running.pop(child)] = os.waitstatus_to_exitcode(status)
for name, arguments, out in orders:
    if len(running) == at_once:
        end_one()
    child = os.fork()
    if child == 0:
        for number in (1, 2):
            os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        sys.argv = ["shithubd-worker", *arguments]
        main()
    running[child] = name
while running:
    end_one()
json.dump(codes, sys.stdout)
"""


@dataclass
class Done:
    """How a command ended, and its output."""

    code: int
    said: str


def at_once(database: Database, directory: Path, commands: Mapping[str, Sequence[str]]) -> dict[str, Done]:
    """Run commands at the same time. Returns when all have ended."""
    orders = [
        (name, arguments, str(directory / f"{number}")) for number, (name, arguments) in enumerate(commands.items())
    ]
    ran = subprocess.run(
        [sys.executable, "-c", FORKS],
        input=json.dumps([orders, AT_ONCE]),
        env=database.environment(),
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return {name: Done(json.loads(ran.stdout)[name], Path(out).read_text()) for name, _, out in orders}


@contextmanager
def somebody(database: Database, *statements: str) -> Iterator[int]:
    """A person has an open transaction in which this was done, and leaves it at the end. Yields the pid of the
    session."""
    connection = psycopg.connect(database.url, application_name="somebody")
    try:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection.info.backend_pid
    finally:
        connection.close()
