"""The undo that a command prints undoes exactly its own change when it is pasted into a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import new_database

NAMES = ["plain", "; touch x", "$(touch x)", "it's", "-rf", "a b*", "\u202eevil", "back\\slash", "--force"]


@pytest.fixture
def other(database):
    """Another queue, which the variables name by mistake. Nothing may happen there."""
    for made in new_database(database.server):
        yield made
        assert made.query("SELECT FROM audit") == []


@pytest.fixture
def shell(other, tmp_path):
    """Runs a line in bash, with the program in its PATH. It creates no file."""
    program = tmp_path / "bin" / "shithubd-worker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m shithubd_worker "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "SHITHUBD_WORKER_DATABASE_URL": other.url, "LC_ALL": "C.UTF-8"}

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    yield run
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


@pytest.mark.parametrize(
    "words", [("pause-kind", "--force", "--reason", "r", "--", "{}"), ("drain", "--force", "--host", "{}")]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_pasted_undo_ends_that_hold_in_that_queue(database, command, shell, words, name):
    given = [each.format(name) if each == "{}" else each for each in words]
    done = command("--database-url", database.url, "--schema", "public", *given, env={"SHITHUBD_WORKER_SCHEMA": "none"})
    assert done.returncode == 0, done.stderr
    assert [target for (target,) in database.query("SELECT target FROM holds")] == [name]
    (undo,) = [line.removeprefix("undo: ") for line in done.stdout.splitlines() if line.startswith("undo: ")]
    undone = shell(undo)
    assert (undone.returncode, undone.stderr) == (0, "")
    assert database.query("SELECT FROM holds") == []


def test_the_undo_in_json_is_the_same(database, command, shell):
    done = command("--database-url", database.url, "drain", "--json", "--force", "--host", "a b\n")
    undone = shell(json.loads(done.stdout)["undo"])
    assert (undone.returncode, undone.stderr) == (0, "")
    assert database.query("SELECT FROM holds") == []


def test_an_undo_leaves_other_holds(database, command, shell):
    for words in (("drain",), ("drain", "--force", "--host", "a"), ("pause-kind", "--force", "--reason", "r", "k")):
        assert command("--database-url", database.url, *words).returncode == 0
    done = command("--database-url", database.url, "drain", "--json", "--force", "--host", "b")
    assert shell(json.loads(done.stdout)["undo"]).returncode == 0
    assert database.query("SELECT scope, target FROM holds ORDER BY id") == [
        ("fleet", ""),
        ("host", "a"),
        ("kind", "k"),
    ]


def test_a_flag_before_the_name_of_a_command_wins_over_the_variable(database, other, command):
    done = command("--database-url", database.url, "drain", env={"SHITHUBD_WORKER_DATABASE_URL": other.url})
    assert done.returncode == 0, done.stderr
    assert len(database.query("SELECT FROM holds")) == 1
