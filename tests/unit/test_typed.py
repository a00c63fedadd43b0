"""What a user's type checkers say about programs that use the package: mypy and pyright, both strict, and from outside.

The package is installed from its wheel into a virtual environment of its own, as a user does it. Each public name has a
right program, its docstring's example, and a wrong one. A wrong line says what the two checkers call its fault.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from examples import PUBLIC, example, program

import shithubd_worker
from shithubd_worker.job import Job

ROOT = Path(__file__).parents[2]

MEMBERS = """
import logging
import subprocess
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, assert_type

import psycopg
from psycopg.rows import TupleRow

from shithubd_worker import Job, NotNow, Registry, RetryAfter, __version__, enqueue

registry = Registry()


@registry.handler("mail.send", lease_timeout=timedelta(minutes=1), max_attempts=5, backoff=60, retention="90d")
def send(job: Job, to: str, *, copies: int = 1, **more: object) -> bool:
    assert_type(job.id, int)
    assert_type(job.kind, str)
    assert_type(job.payload, dict[str, Any])
    assert_type(job.attempt, int)
    assert_type(job.max_attempts, int)
    assert_type(job.is_last_attempt, bool)
    assert_type(job.priority, int)
    assert_type(job.run_at, datetime)
    assert_type(job.created_at, datetime)
    assert_type(job.last_error, str | None)
    assert_type(job.schema, str)
    assert_type(job.config.repo_root, Path | None)
    assert_type(job.log, logging.LoggerAdapter[logging.Logger])
    assert_type(job.connection, psycopg.Connection)
    job.extend()
    job.extend(timedelta(minutes=1))
    with job.transaction() as connection:
        assert_type(connection, psycopg.Connection)
        assert_type(connection.execute("SELECT 1").fetchone(), TupleRow | None)
    with job.popen(["true"], env={"A": "b"}, text=True) as child:
        assert_type(child, subprocess.Popen[Any])
    return True


def order(connection: psycopg.Connection[tuple[str]], at: datetime) -> None:
    assert_type(enqueue(connection, "mail.send", to="ada@example.org", delay=timedelta(hours=1)), int)
    enqueue(connection, "mail.send", to="ada@example.org", run_at=at, priority=-1, max_attempts=3, schema="forge")


class Mailer:
    def __call__(self, job: Job, to: str) -> None: ...
    def resend(self, job: Job, to: str) -> None: ...


def anything(*args: object, **members: object) -> None: ...


# What is registered keeps its type. All that takes a job first can be registered.
assert_type(registry.handler("a")(Mailer()), Mailer)
registry.handler("b", backoff=lambda attempt: 2.0 * attempt)(Mailer().resend)
registry.handler("c")(partial(send, copies=2))
registry.handler("d")(anything)

mapping: Mapping[str, object] = registry
for kind in registry:
    assert_type(kind, str)
    assert_type(registry[kind].max_runtime, float)
Registry().add(registry.values())
version: str = __version__
assert_type(RetryAfter(None, "busy").seconds, float | None)
assert_type(NotNow(timedelta(minutes=1), "busy").seconds, float)


def sends(job: Job) -> bool:
    return send(job, "ada@example.org", copies=2)
"""

RIGHT = {"members": MEMBERS, **{name: program(example(name)) for name in ["", *PUBLIC]}}

PROPERTIES = [name for name, member in vars(Job).items() if isinstance(member, property)]

# Each name's faults: a line of a program, and what mypy and pyright call its fault. The lines stand in a handler.
WRONG = {
    "Client": [
        ("Client(3)", "arg-type", "reportArgumentType"),
        ("Client(not_ours)", "arg-type", "reportArgumentType"),
        ("Client().retry_jobs('7')", "arg-type", "reportArgumentType"),
        ("Client().retry_jobs([7], 'why')", "call-arg", "reportCallIssue"),
        ("Client().reschedule_jobs([7], run_at='now')", "arg-type", "reportArgumentType"),
        ("Client().permanently_fail_jobs([7])", "call-arg", "reportCallIssue"),
        ("for row in Client().complete_jobs([7]): row.jobid", "attr-defined", "reportAttributeAccessIssue"),
        ("for row in Client().complete_jobs([7]): row.id = 8", "misc", "reportAttributeAccessIssue"),
        ("Client().enqueue_many('stars.add', [7])", "list-item", "reportArgumentType"),
        ("Client().force_unlock_workers([7])", "list-item", "reportArgumentType"),
        ("Client().force_unlock_workers(host=3)", "arg-type", "reportArgumentType"),
        ("Client().sweep(stale_after='5m')", "arg-type", "reportArgumentType"),
        ("Client().sweep(300)", "call-arg", "reportCallIssue"),
        ("for row in Client().sweep(): row.jobid", "attr-defined", "reportAttributeAccessIssue"),
        ("Client().cleanup(7)", "arg-type", "reportArgumentType"),
        ("Client().undo_jobs('7')", "arg-type", "reportArgumentType"),
        ("Client().plan_jobs('retry', where='failed')", "arg-type", "reportArgumentType"),
        ("Client().plan_jobs('retry', [7]).name.upper()", "union-attr", "reportOptionalMemberAccess"),
        ("Client().apply_plan('7-a', True)", "call-arg", "reportCallIssue"),
        ("Client().resume_kind('k').reason", "union-attr", "reportOptionalMemberAccess"),
        ("Client().resume_kind('k', ramp='10,50')", "arg-type", "reportArgumentType"),
        ("Client().resume_kind('k', rate='50/s')", "arg-type", "reportArgumentType"),
    ],
    "Interrupted": [
        ("raise Interrupted from 'stop'", "misc", "reportGeneralTypeIssues"),
        ("except_: type[Exception] = Interrupted", "assignment", "reportAssignmentType"),
    ],
    "Job": [
        *((f"job.{name} = job.{name}", "misc", "reportAttributeAccessIssue") for name in PROPERTIES),
        ("job.extend = print", "method-assign", "reportAttributeAccessIssue"),
        ("job.repo = 1", "attr-defined", "reportAttributeAccessIssue"),
        ("job.attempts", "attr-defined", "reportAttributeAccessIssue"),
        ("Job(1)", "arg-type", "reportArgumentType"),
        ("job.last_error.upper()", "union-attr", "reportOptionalMemberAccess"),
        ("job.extend('60')", "arg-type", "reportArgumentType"),
        ("job.popen(['true'], env=['A=b'])", "arg-type", "reportArgumentType"),
        ("job.transaction().execute('SELECT 1')", "attr-defined", "reportAttributeAccessIssue"),
        ("with job.transaction() as c: c.exekute('SELECT 1')", "attr-defined", "reportAttributeAccessIssue"),
        ("with job.transaction() as c: c.execute('SELECT 1').fetchone()[0]", "index", "reportOptionalSubscript"),
        ("for row in job.connection.execute('SELECT 1'): row['one']", "call-overload", "reportArgumentType"),
    ],
    "LeaseLost": [("raise LeaseLost(job)", "arg-type", "reportArgumentType")],
    "NotNow": [
        ("raise NotNow(60)", "call-arg", "reportCallIssue"),
        ("raise NotNow(None, 'busy')", "arg-type", "reportArgumentType"),
    ],
    "NotTheWorker": [("raise NotTheWorker(1)", "arg-type", "reportArgumentType")],
    "Permanent": [("raise Permanent(job=job)", "call-arg", "reportCallIssue")],
    "Registry": [
        ("Registry('stars')", "call-arg", "reportCallIssue"),
        ("registry.handler('a')(lambda: None)", "type-var", "reportArgumentType"),
        ("registry.handler('a')(of_text)", "type-var", "reportArgumentType"),
        ("registry.handler('a')(by_name)", "type-var", "reportArgumentType"),
        ("registry.handler('a')(of_text_or_job)('text', 1)", "call-arg", "reportCallIssue"),
        ("registry.handler(of_text)", "arg-type", "reportArgumentType"),
        ("registry.handler('a', lease_timeout='1 min')", "arg-type", "reportArgumentType"),
        ("registry.handler('a', max_attempts=2.5)", "arg-type", "reportArgumentType"),
        ("registry.handler('a', retention='30d')", "arg-type", "reportArgumentType"),
        ("registry.handler('a', backoff=lambda: 1.0)", "arg-type", "reportArgumentType"),
        ("registry.handler('a', timeout=60)", "call-arg", "reportCallIssue"),
        ("registry.handler('a', 60)", "call-arg", "reportCallIssue"),
        ("registry['a'] = 1", "index", "reportIndexIssue"),
        ("registry.add(['a'])", "list-item", "reportArgumentType"),
    ],
    "RetryAfter": [("raise RetryAfter('60')", "arg-type", "reportArgumentType")],
    "enqueue": [
        ("enqueue('host=/tmp', 'stars.add')", "arg-type", "reportArgumentType"),
        ("enqueue(not_ours, 'stars.add')", "arg-type", "reportArgumentType"),
        ("enqueue(job.connection)", "call-arg", "reportCallIssue"),
        ("enqueue(job.connection, 3)", "arg-type", "reportArgumentType"),
        ("enqueue(job.connection, 'stars.add', delay='60')", "arg-type", "reportArgumentType"),
        ("enqueue(job.connection, 'stars.add', run_at='now')", "arg-type", "reportArgumentType"),
        ("enqueue(job.connection, 'stars.add', priority=None)", "arg-type", "reportArgumentType"),
        ("enqueue(job.connection, 'stars.add', max_attempts='3')", "arg-type", "reportArgumentType"),
        ("enqueue(job.connection, 'stars.add', {'repo': 'ada/engine'})", "call-arg", "reportCallIssue"),
        ("text: str = enqueue(job.connection, 'stars.add')", "assignment", "reportAssignmentType"),
    ],
    "__version__": [("__version__ + 1", "operator", "reportOperatorIssue")],
    "": [
        ("from shithubd_worker import Registri", "attr-defined", "reportAttributeAccessIssue"),
        ("shithubd_worker.Registri", "attr-defined", "reportAttributeAccessIssue"),
        ("shithubd_worker._HOMES", "attr-defined", "reportAttributeAccessIssue"),
    ],
}
BEFORE_WRONG = f"""
import psycopg
import shithubd_worker
from shithubd_worker import {", ".join(shithubd_worker.__all__)}

registry = Registry()
def of_text(repo: str) -> None: ...
def by_name(*, job: Job) -> None: ...
def of_text_or_job(first: Job | str) -> None: ...
"""


def wrong_program(name: str) -> str:
    """The faults of a name, each in a function of its own, because the line after a `raise` is not looked at."""
    heads = (f"def handle{number}(job: Job, not_ours: psycopg.AsyncConnection) -> None:" for number in count())
    return BEFORE_WRONG + "".join(
        f"{head}\n    {line}\n" for head, (line, _, _) in zip(heads, WRONG[name], strict=False)
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The Python of a virtual environment with the wheel and what it needs."""
    directory = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={directory}", ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / "venv"], check=True)
    python = directory / "venv/bin/python"
    subprocess.run([*pip, f"--python={python}", "install", *directory.glob("*.whl")], check=True)
    return python


@pytest.fixture(scope="module")
def told(installed, tmp_path_factory):
    """All programs, and what each checker says of them: (program, line) → the names of the faults."""
    directory = tmp_path_factory.mktemp("programs")
    for name, text in RIGHT.items():
        (directory / f"right_{name}.py").write_text(f"# pyright: strict\n{text}")
    for name in WRONG:
        (directory / f"wrong_{name}.py").write_text(wrong_program(name))
    python = f"--python-executable={installed}"
    mypy = [sys.executable, "-m", "mypy", "--strict", python, "--cache-dir=cache", "--allow-redefinition", "."]
    said = subprocess.run(mypy, cwd=directory, capture_output=True, text=True, check=False).stdout
    found = {"mypy": {}, "pyright": {}}
    for name, line, rule in re.findall(r"^(\w+)\.py:(\d+): error: .*\[([a-z-]+)\]$", said, re.MULTILINE):
        found["mypy"].setdefault((name, int(line)), set()).add(rule)
    assert said.count(" error: ") == sum(map(len, found["mypy"].values())), said
    (directory / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    pyright = [Path(sys.executable).with_name("basedpyright"), f"--pythonpath={installed}", "--outputjson", "."]
    said = subprocess.run(pyright, cwd=directory, capture_output=True, text=True, check=False).stdout
    for fault in json.loads(said)["generalDiagnostics"]:
        place = (Path(fault["file"]).stem, fault["range"]["start"]["line"] + 1)
        found["pyright"].setdefault(place, set()).add(fault.get("rule"))
    return found


def test_the_checkers_see_the_wheel_and_not_this_tree(installed):
    where = "import shithubd_worker; print(shithubd_worker.__file__)"
    found = Path(subprocess.check_output([installed, "-c", where], cwd="/", text=True).strip())
    assert found.is_relative_to(installed.parents[1])
    assert found.with_name("py.typed").exists()


def test_each_public_name_has_a_wrong_program():
    assert {*WRONG} == {"", *shithubd_worker.__all__}


def test_a_program_uses_each_member_of_a_job():
    assert {name for name in vars(Job) if name[0] != "_"} <= set(re.findall(r"\bjob\.(\w+)", MEMBERS))


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_passes_a_strict_check(told, checker, name):
    assert {place: rules for place, rules in told[checker].items() if place[0] == f"right_{name}"} == {}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_line_is_refused_for_what_is_wrong_with_it(told, checker, name):
    before = BEFORE_WRONG.count("\n")
    expected = {
        before + 2 * number: (line, mypy if checker == "mypy" else pyright)
        for number, (line, mypy, pyright) in enumerate(WRONG[name], start=1)
    }
    found = {place[1]: rules for place, rules in told[checker].items() if place[0] == f"wrong_{name}"}
    assert {line: rules for line, rules in found.items() if line not in expected} == {}
    for number, (line, rule) in expected.items():
        assert rule in found.get(number, ()), line
