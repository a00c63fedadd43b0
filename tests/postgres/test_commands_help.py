"""What the commands say of themselves, and what they don't understand."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from command_tree import TOP, all_commands
from commands import emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from rows import holds

from shithubd_worker import __version__, errors
from shithubd_worker.database import schema

COMMANDS = {each.words: each.command for each in all_commands()}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_shows_how_it_is_used(database, command, path):
    told = command(*path, "--help").stdout
    assert told.startswith(f"Usage: shithubd-worker {' '.join(path)} ")
    assert max(map(len, told.splitlines())) <= 80
    assert re.findall(r"(?m)^.*\w-$", told) == [], "a name is broken at its hyphen"
    example = told.partition("Example")[2]
    assert f"shithubd-worker {' '.join(path)}" in example
    # The rest are groups, the worker, a screen, and a command whose output is JSON.
    groups = {("jobs",), ("audit",), ("units",), ("history",), ("search",), ("workers",), ("kinds",), ("queues",)}
    if path not in groups | {("run",), ("top",), ("units", "targets")}:
        assert "--json" in told


def test_there_is_a_command_for_each_step():
    steps = (
        "init run migrate enqueue status top drain resume pause-kind resume-kind workers release-dead check-config"
        " search runbook jobs apply plans audit units history cleanup doctor stats kinds queues"
    )
    jobs = [
        ("jobs", name)
        for name in ("list", "show", "explain", "complete", "fail", "reschedule", "retry", "discard", "release")
    ]
    others = [("history", "drop"), ("search", "find"), ("search", "forget")]
    others += [("kinds", "list"), ("queues", "list")]
    others += [("workers", name) for name in ("list", "unlock", "sweep")]
    others += [("audit", name) for name in ("list", "show", "undo", "timeline")]
    host = [("units", name) for name in ("install", "diff", "targets", "uninstall")]
    assert set(COMMANDS) == {*((name,) for name in steps.split()), *jobs, *host, *others}


def test_the_help_shows_how_to_start_and_the_exit_codes(command):
    told = command("--help").stdout
    assert max(map(len, told.splitlines())) <= 80
    for text in ("shithubd-worker migrate", "shithubd-worker run", "enqueue"):
        assert text in told
    codes = {int(code) for code in re.findall(r"(?m)^    (\d+) ", told.partition("Exit codes:")[2])}
    assert codes == {value for name, value in vars(errors).items() if name.startswith("EXIT_")}


@pytest.mark.parametrize("group", [(), *(each.words for each in TOP if each.subcommands)], ids=" ".join)
def test_the_list_of_commands_cuts_no_summary(command, group):
    told = command(*group, "--help").stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    assert told
    assert [line for line in told.splitlines() if not re.fullmatch(r"  [a-z-]+ +[A-Z].*[a-z]\.", line)] == []


def test_a_help_text_has_letters_that_every_terminal_can_show():
    assert [path for path, one in COMMANDS.items() if not one.help.isascii()] == []


def test_the_version_names_the_schemas_too(command):
    assert command("--version").stdout == f"shithubd-worker {__version__} (schema {schema.newest_version()})\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--nonsense"),
        ("nonsense",),
        ("enqueue",),
        ("enqueue", "k", "{}", "more"),
        ("enqueue", "k", "--delay", "1", "--run-at", "2030-01-01"),
        ("enqueue", "k", "--delay", "soon"),
        ("enqueue", "k", "--run-at", "tomorrow"),
        ("enqueue", "k", "--run-at", "2h"),
        ("enqueue", "k", "--priority", "40000"),
        ("drain", "--host", "a", "--unit", "b"),
        ("drain", "--timeout", "-1"),
        ("pause-kind",),
        ("pause-kind", "k\n", "--force", "--reason", "r"),
        ("jobs", "show", "x"),
        ("jobs", "release"),
        ("jobs", "retry", "1", "--kind", "k"),
        ("jobs", "retry", "1", "--limit", "5"),
        ("jobs", "discard"),
        ("jobs", "discard", "--limit", "5", "--yes"),
        ("jobs", "discard", "--state", "processing"),
        ("jobs", "complete", "--payload", "[]"),
        ("jobs", "complete", "--error", ""),
        ("jobs", "complete", "--payload", "x"),
        ("jobs", "complete", "--older-than", "soon"),
        ("jobs", "complete", "--kind", "k", "--limit", "0"),
        ("jobs", "fail", "1"),
        ("jobs", "reschedule", "1"),
        ("jobs", "reschedule", "1", "--delay", "1", "--run-at", "2030-01-01"),
        ("jobs", "reschedule", "1", "--run-at", "2h"),
        ("jobs", "reschedule", "1", "--priority", "40000"),
        ("jobs", "reschedule", "1", "--max-attempts", "0"),
        ("jobs", "list", "--state", "done"),
        ("audit", "show"),
        ("audit", "undo", "x"),
        ("audit", "--since", "yesterday"),
        ("audit", "timeline", "--since", "1h", "--until", "2h"),
        ("release-dead",),
    ],
    ids=" ".join,
)
def test_what_is_not_understood_is_a_usage_error_in_one_line(command, arguments):
    assert command.refused(*arguments, code=2).startswith("Error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("drain", "--reason", os.fsdecode(b"\xff")),
        ("drain", "--host", os.fsdecode(b"\xff")),
        ("resume-kind", os.fsdecode(b"\xff")),
        ("jobs", "list", "--kind", os.fsdecode(b"\xff")),
        ("search", os.fsdecode(b"\xff")),
        ("status", "--schema", os.fsdecode(b"\xff")),
    ],
    ids=lambda words: words[0],
)
def test_bytes_that_are_no_text_are_refused_in_one_line(database, command, arguments):
    assert "'\\udcff' is not UTF-8" in command.refused(*arguments, code=2)
    assert holds(database) == []


def test_a_reader_that_leaves_early_is_no_fault_of_ours(database, command):
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 20000)")
    listing = [sys.executable, "-m", "shithubd_worker", "jobs", "list", "--limit", "20000", "--json"]
    with subprocess.Popen(
        listing, env=database.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
