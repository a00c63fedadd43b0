"""Commands with odd streams, directories, locales and limits: no traceback, the documented exit code, and nobody takes
a change for undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack

import click
import nursery
import pytest
from conftest import PATIENCE

from shithubd_worker.cli import cli, needs
from shithubd_worker.database.schema import functions_digest

RUN = ("run", "--until-empty", "--metrics", "off", "--handlers", "sample_jobs:registry", "--kind", "test.ok")
# Each command once, and the errors. The exit code is that of a usual run.
LOOKS = {
    ("--help",): 0,
    ("--version",): 0,
    ("status",): 0,
    ("doctor", "history-days"): 0,
    ("stats", "--window", "all"): 0,
    ("kinds", "list"): 0,
    ("queues", "list"): 0,
    ("workers", "list", "--json"): 0,
    ("jobs", "list"): 0,
    ("jobs", "show", "1"): 0,
    ("jobs", "explain", "1"): 0,
    ("plans",): 0,
    ("search", "--help"): 0,
    ("search", "find", "x", "--json"): 0,
    ("audit", "list"): 0,
    ("audit", "timeline"): 0,
    ("runbook",): 0,
    ("units", "diff", "--help"): 0,
    ("units", "targets", "--help"): 0,
    ("migrate", "--dry-run"): 0,
    ("check-config", "--handlers", "sample_jobs:registry"): 0,
}
CHANGES = {
    ("enqueue", "nap", "{}"): 0,
    ("pause-kind", "nap", "--force", "--reason", "x"): 0,
    ("resume-kind", "nap", "--canary", "1", "--rate", "9/m"): 0,
    ("resume-kind", "nap"): 0,
    ("drain", "--host", "no", "--force", "--reason", "x"): 0,
    ("resume", "--host", "no"): 0,
    ("migrate",): 0,
    ("history", "drop"): 0,
    ("jobs", "reschedule", "--kind", "nap", "--delay", "1", "--yes"): 0,
    ("release-dead", "--invocation-id", "x"): 0,
    ("search", "forget", "nosuch"): 0,
    ("workers", "unlock", "no:1"): 0,
    ("workers", "sweep"): 0,
    ("cleanup", "gc_task_identifiers"): 0,
    RUN: 0,
}
ERRORS = {
    (): 2,
    ("nosuch",): 2,
    ("jobs", "retry", "999"): 1,
    ("jobs", "release", "999"): 1,
    ("jobs", "discard", "999"): 1,
    ("apply", "999-abcdef"): 1,
    ("jobs", "complete", "999"): 1,
    ("jobs", "fail", "999", "--reason", "x"): 1,
    ("jobs", "reschedule", "--kind", "nap", "--delay", "1"): 5,  # nobody could answer the question
    ("audit", "show", "999"): 1,
    ("audit", "undo", "999"): 1,
    ("init", "/dev/null/first"): 1,
    ("runbook", "nosuch"): 5,
    ("enqueue", "nap", "-"): 2,  # stdin is empty
    ("top",): 2,  # no terminal
}
COMMANDS = LOOKS | CHANGES | ERRORS
# What is the same for all of them, at once.
ODD = """
import resource, shutil, sys, tempfile, time
sys.stdout.reconfigure(encoding="ascii", errors="strict")
here = tempfile.mkdtemp(); os.chdir(here); os.rmdir(here)
time.tzset(); os.umask(0o777)
"""
ODD_ENV = {
    **{"HOME": "/nonexistent", "TERM": "dumb", "COLUMNS": "0", "TZ": ":/nonexistent/\udcff", "LC_ALL": "xx_YY.latin1"},
    **{"SUDO_USER": "\udcff", "LOGNAME": "\udcff", "FOO": "\udcff", "LINES": "x", "NO_COLOR": ""},
}


def closed(*numbers):
    names = ", ".join(f"sys.{('stdin', 'stdout', 'stderr')[number]}" for number in numbers)
    return f"[os.close(each) for each in {numbers}]; {' = '.join(names.split(', '))} = None"


class Ended:
    """What a command came to."""

    def __init__(self, database, arguments, first="", stdout=None, stderr=None, env=None):
        with ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            given = [files[0], stdout or files[1], stderr or files[2]]
            process = nursery.Process(
                list(arguments), env={**database.environment(), **(env or {})}, files=given, first=first
            )
            self.code = process.wait(PATIENCE)
            for file in files:
                file.seek(0)
            self.out, self.err = (file.read().decode(errors="surrogateescape") for file in files[1:])
        for trace in ("Traceback", "Exception ignored", "excepthook"):
            assert trace not in self.out + self.err, f"{arguments}: {self.out}{self.err}"


@pytest.fixture(name="database")
def with_a_job(database):
    database.query("INSERT INTO jobs (kind, run_at) VALUES ('nap', now() + interval '1 day')")
    return database


@pytest.fixture
def full():
    with open("/dev/full", "wb", buffering=0) as file:
        yield file


@pytest.fixture
def gone():
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as file:
        yield file


def test_each_command_is_in_the_table_and_known_to_change_or_to_look():
    def leaves(group, *names):
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from leaves(command, *names, name)
            else:
                yield " ".join((*names, name))

    known = set(leaves(cli))
    tried = {name for name in known for words in COMMANDS if " ".join(words).startswith(name)}
    # They need root and a host.
    assert known - tried <= {"units install", "units uninstall"}
    assert known >= needs.CHANGES
    reasons = {name for name in known if "reason" in {each.name for each in _command(name).params}}
    assert reasons <= needs.CHANGES


def _command(name):
    command: click.Command = cli
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


@pytest.mark.parametrize("first", [closed(2), closed(0, 1, 2)])
def test_a_closed_stream_is_like_dev_null(database, first):
    for words, code in COMMANDS.items():
        assert Ended(database, words, first).code == code, words


def test_nothing_odd_around_a_command_changes_its_end(database):
    for words, code in COMMANDS.items():
        assert Ended(database, words, ODD, env=ODD_ENV).code == code, words


def test_a_full_disk_does_not_undo_a_change_and_its_words_are_told_on_stderr(database, full, tmp_path):
    for words, code in CHANGES.items():
        ended = Ended(database, words, stdout=full)
        assert ended.code == code, words
        if words != RUN and words[0] != "release-dead":
            assert "done, but stdout can't be written: No space left on device. The output is: " in ended.err, words
    jobs = [str(job) for (job,) in database.query("SELECT id FROM jobs WHERE kind = 'nap' ORDER BY id")]
    assert len(jobs) == 2
    assert Ended(database, ("enqueue", "nap", "{}"), stdout=full).err.endswith(f"The output is: {int(jobs[1]) + 1}\n")
    # files are a change, too
    ended = Ended(database, ("init", str(tmp_path / "first")), stdout=full)
    assert (ended.code, len(list(tmp_path.glob("first/*")))) == (0, 4)
    # a change of several jobs goes on to its end
    many = [str(job) for (job,) in database.query("SELECT id FROM jobs WHERE kind = 'nap' ORDER BY id")]
    assert Ended(database, ("jobs", "discard", *many), stdout=full).code == 0
    assert database.value("SELECT count(*) FROM jobs") == 0


def test_a_look_that_a_full_disk_swallows_fails_in_one_line(database, full):
    for words in LOOKS:
        ended = Ended(database, words, stdout=full)
        assert (ended.code, ended.err) == (
            *(1, "shithubd-worker: stdout can't be written: No space left on device\n"),
        ), words


def test_a_reader_that_has_gone_ends_a_look_quietly_and_no_change(database, gone):
    for words in LOOKS | CHANGES:
        ended = Ended(database, words, stdout=gone)
        assert ended.code == (1 if words in LOOKS else 0), words
        assert ended.err == "" or words == RUN, words


def test_an_error_that_nobody_can_read_keeps_its_exit_code(database, full, gone):
    for words, code in ERRORS.items():
        assert Ended(database, words, stdout=full, stderr=full).code == code, words
        assert Ended(database, words, stderr=gone).code == code, words


@pytest.mark.parametrize("most", [4, 6, 8])
def test_too_few_descriptors_are_one_line(database, most):
    first = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))"
    for words in (("status",), RUN):
        ended = Ended(database, words, first)
        assert ended.code in (0, 1, 75, 78), words
        assert ended.code == 0 or ended.err.splitlines()[-1].startswith("shithubd-worker: "), ended.err


def test_the_locale_changes_neither_arguments_nor_files(database):
    """An ASCII locale of a whole new Python, as `LC_ALL=C` is where UTF-8 is switched off."""
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    program = [sys.executable, "-m", "shithubd_worker"]

    def ran(*arguments, **env):
        environment = {**database.environment(), **plain, **env}
        done = subprocess.run(
            [*program, *arguments], env=environment, capture_output=True, check=False, timeout=PATIENCE
        )
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        return done.stdout.decode()

    job = int(ran("enqueue", "größe", '{"name": "Ж"}', PYTHONIOENCODING="ascii"))
    assert database.query("SELECT kind, payload FROM jobs WHERE id = %s", job) == [("größe", {"name": "Ж"})]
    assert json.loads(ran("migrate", "--json"))["applied"] == []
    assert database.value("SELECT functions FROM worker_schema") == functions_digest()
