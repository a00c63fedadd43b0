"""Every command as every role: the role's own commands work, all others refuse with one clear line and exit code 77."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import click
import pytest
from conftest import Database
from rows import add_worker
from test_returning import leased

from shithubd_worker import cli as program
from shithubd_worker.cli import cli, needs
from shithubd_worker.errors import EXIT_OK, EXIT_RIGHTS

# "" means no role
ROLES = ("shithub_migrate", "shithub_worker", "shithub_enqueue", "shithub_operator", "shithub_metrics", "")
OPERATOR = {"shithub_operator"}
# Each command line, and the roles that may run it. <job> waits; <leased> is leased by a dead worker;
# <changed> is the audit row of a change.
COMMANDS: dict[str, tuple[str, set[str]]] = {
    "migrate": ("", {"shithub_migrate"}),
    "history drop": ("", {"shithub_migrate"}),
    "run": ("--until-empty --metrics off --handlers sample_jobs:registry", {"shithub_worker"}),
    "release-dead": ("--invocation-id none", {"shithub_worker"}),
    "enqueue": ("k", {"shithub_enqueue", "shithub_operator"}),
    "search find": ("word", {"shithub_operator", "shithub_worker"}),
    "search forget": ("a.git", OPERATOR),
    "status": ("", {"shithub_operator", "shithub_metrics"}),
    "doctor": ("history-days", {*ROLES}),  # what a login may not see is not checked, and the command says so
    "stats": ("", {"shithub_operator", "shithub_metrics"}),
    "kinds list": ("", {"shithub_operator", "shithub_metrics"}),
    "queues list": ("", {"shithub_enqueue", "shithub_operator", "shithub_worker", "shithub_metrics"}),
    "workers list": ("", {"shithub_operator", "shithub_metrics"}),
    "workers unlock": ("here:1", OPERATOR),
    "workers sweep": ("", OPERATOR),
    "cleanup": ("GC_JOB_QUEUES,GC_TASK_IDENTIFIERS DELETE_PERMAFAILED_JOBS --yes", OPERATOR),
    "drain": ("--timeout 30s", OPERATOR),
    "resume": ("", OPERATOR),
    "pause-kind": ("k", OPERATOR),
    "resume-kind": ("k", OPERATOR),
    "jobs list": ("", OPERATOR),
    "jobs show": ("<job>", OPERATOR),
    "jobs explain": ("<job>", OPERATOR),
    "jobs complete": ("<job>", OPERATOR),
    "jobs fail": ("<job> --message x", OPERATOR),
    "jobs reschedule": ("--kind k --priority 5 --yes", OPERATOR),
    "jobs release": ("<leased>", OPERATOR),
    "jobs retry": ("<job>", OPERATOR),
    "jobs discard": ("<job>", OPERATOR),
    "audit list": ("", OPERATOR),
    "audit timeline": ("", OPERATOR),
    "audit show": ("<changed>", OPERATOR),
    "audit undo": ("<changed>", OPERATOR),
    "apply": ("<plan>", OPERATOR),
    "plans": ("", OPERATOR),
}
WITHOUT_A_DATABASE = {
    "check-config",
    "init",
    "runbook",
    "units install",
    "units diff",
    "units targets",
    "units uninstall",
}


A_TERMINAL = {"top"}  # tests/postgres/test_top.py gives it one


def leaves(command: click.Command, path: str = "") -> Iterator[str]:
    """The full names of all commands."""
    if not isinstance(command, click.Group):
        yield path.strip()
        return
    for name, inner in command.commands.items():
        yield from leaves(inner, f"{path} {name}")


def test_every_command_is_tried() -> None:
    assert {*leaves(cli)} == {*COMMANDS} | WITHOUT_A_DATABASE | A_TERMINAL
    named = {words for name in leaves(cli) for words in (name, name.split()[0])}
    assert named >= {*needs.NEEDS}
    for name, (_, roles) in COMMANDS.items():
        assert needs.role(name.split()) in roles


@pytest.mark.parametrize(
    "words",
    [
        ["--schema", "x", "status"],
        ["--database-url=x", "status"],
        ["-h", "status"],
        ["workers"],
        ["workers", "--json"],
    ],
)
def test_options_before_the_command_are_not_the_command(words: list[str]) -> None:
    assert needs.role(words) == "shithub_metrics"


def typed(database: Database, name: str) -> list[str]:
    """The words of a command for jobs that exist."""
    database.query("TRUNCATE jobs, holds, ramps")
    job = database.value("INSERT INTO jobs (kind) VALUES ('k') RETURNING id")
    text = COMMANDS[name][0]
    if "<leased>" in text:
        leased(database, 1, add_worker(database, "here", invocation="abc"))
        database.query("UPDATE beats SET beat_at = '2000-01-01'")
        job = database.value("SELECT id FROM jobs WHERE state = 'processing'")
    if "<changed>" in text:
        database.query("SELECT discard_jobs(ARRAY[%s::bigint])", job)
        job = database.value("SELECT max(id) FROM audit")
    if "<plan>" in text:
        job = database.value("SELECT plan FROM plan_jobs_v1('discard', p_where => '{}')")
    return [*name.split(), *re.sub("<.*>", str(job), text).split()]


# Here the program is a function: its process does not end, so it leaves its connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "run"])
def test_a_command_works_for_its_roles_and_refuses_all_others_in_one_line(
    database: Database,
    login: Callable[[str], str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for role in ROLES:
        monkeypatch.setenv("SHITHUBD_WORKER_DATABASE_URL", login(role))
        monkeypatch.setattr(sys, "argv", ["shithubd-worker", *typed(database, name)])
        code = program._main()
        gc.collect()
        said = capfd.readouterr().err
        if role in COMMANDS[name][1]:
            assert code == EXIT_OK, f"{role}: {said}"
        else:
            assert code == EXIT_RIGHTS, f"{role}: {code} {said}"
            assert len(said.splitlines()) == 1
            assert needs.role(name.split()) in said


@pytest.mark.parametrize("role", ROLES)
def test_a_worker_runs_with_only_its_own_role(database: Database, login: Callable[[str], str], role: str) -> None:
    environment = {**database.environment(), "SHITHUBD_WORKER_DATABASE_URL": login(role)}
    database.query("INSERT INTO jobs (kind) VALUES ('ok')")
    done = subprocess.run(
        [sys.executable, "-m", "shithubd_worker", *typed(database, "run")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if role == "shithub_worker":
        assert done.returncode == EXIT_OK, done.stderr
    else:
        assert done.returncode == EXIT_RIGHTS, done.stderr
        [line] = [line for line in done.stderr.splitlines() if line.startswith("shithubd-worker: ")]
        assert "shithub_worker" in line
    assert "Traceback" not in done.stderr
