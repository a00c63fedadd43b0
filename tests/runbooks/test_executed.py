"""Run every block of every runbook, word by word, on a real systemd host, and compare its output with the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from follow import follow
from nspawn import Host, eventually
from page import PAGES, RUNBOOKS, Page
from scenes import take_back_the_migration
from stage import tidy
from worker_host import UNIT, configure, start_postgresql

pytestmark = pytest.mark.timeout(900)  # the first one boots the host and installs everything

README = RUNBOOKS.parent / "README.md"
NEW_HOST = RUNBOOKS / "tasks/day-one.md"
DRAIN = RUNBOOKS / "tasks/drain-workers.md"  # followed by a person with sudo, all others by root
TASKS = [path for path in PAGES if path.parent.name == "tasks" and path not in (NEW_HOST, DRAIN)]
ALERTS = [path for path in PAGES if path.parent.name == "alerts"]


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_a_task_is_true(path: Path, host: Host) -> None:
    configure(host, "page_jobs:registry")
    try:
        follow(host, path)
    finally:
        tidy(host)
        take_back_the_migration(host)


def test_the_page_of_a_drain_is_true_with_sudo_and_the_audit_record_names_the_person(host: Host) -> None:
    configure(host, "page_jobs:registry")
    host.run("useradd", "--create-home", "--shell", "/bin/bash", "alice")
    host.write("/etc/sudoers.d/alice", "alice ALL=(ALL) NOPASSWD: ALL\n", "0440")
    name = host.run("hostname").strip()
    host.run("sh", "-c", f"echo 127.0.1.1 {name} >> /etc/hosts")  # as Debian's installer has it
    try:
        follow(host, DRAIN, by_sudo="alice")
    finally:
        host.run("rm", "/etc/sudoers.d/alice")
    by_command = "SELECT DISTINCT actor FROM audit WHERE application_name = 'shithubd-worker command'"
    assert host.sql("shithub", by_command) == [{"actor": f"alice@{name}"}]


@pytest.mark.long
@pytest.mark.parametrize("path", ALERTS, ids=lambda path: path.stem)
def test_the_page_of_an_alert_is_true(path: Path, host: Host) -> None:
    configure(host, "page_jobs:registry")
    try:
        follow(host, path)
    finally:
        start_postgresql(host)  # a page may have failed while it was down
        tidy(host)
        take_back_the_migration(host)


@pytest.fixture
def new_host(wheels: Path) -> Iterator[Host]:
    """A host with PostgreSQL, and without the worker."""
    with Host("shw-new", bind_ro={wheels: "/mnt/wheels"}) as host:
        host.write("/etc/pip.conf", "[install]\nno-index = yes\nfind-links = /mnt/wheels\n")  # in place of PyPI
        start_postgresql(host)
        yield host


def test_day_one_is_true(new_host: Host) -> None:
    follow(new_host, NEW_HOST)
    nobody_else_comes_in(new_host)


def test_the_readmes_commands_for_a_host_work(new_host: Host) -> None:
    [commands] = [block.text for block in Page(README).blocks if "units install" in block.text]
    new_host.run("bash", "-eu", stdin=f"cd /mnt/wheels\n{commands}")
    idle = {"ActiveState": "active", "StatusText": "idle"}
    eventually(lambda: new_host.show(UNIT, "ActiveState", "StatusText") == idle, "the first job is done")
    nobody_else_comes_in(new_host)


def nobody_else_comes_in(host: Host) -> None:
    """A login without grants cannot connect, make temporary tables, or name anything in the schema."""
    rights = (
        "SELECT has_database_privilege('public', 'shithub', 'CONNECT, TEMPORARY')"
        " OR has_schema_privilege('public', 'public', 'USAGE') AS some"
    )
    assert host.sql("shithub", rights) == [{"some": False}]
