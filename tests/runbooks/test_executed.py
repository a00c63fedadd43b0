"""Every block of every runbook, word by word, on a real systemd host, and its output against what the page shows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import scenes
from nspawn import Host
from page import PAGES, RUNBOOKS, Block, Page, filled, prints
from worker_host import configure, start_postgresql

pytestmark = pytest.mark.timeout(900)  # the first one boots the host and installs everything

# How each language is run. What the operator types is read from stdin, so that nothing quotes it once more.
RUN = {
    "sh": ("bash", "-eu"),
    "sql": ("psql", "-X", "-d", "shithub", "-v", "ON_ERROR_STOP=1"),
}
USERS = {"sh": "root", "sql": "postgres"}
NEW_HOST = RUNBOOKS / "tasks/day-one.md"
TASKS = [path for path in PAGES if path.parent.name == "tasks" and path != NEW_HOST]
ALERTS = [path for path in PAGES if path.parent.name == "alerts"]


def run(host: Host, block: Block, text: str) -> str:
    """Run one block; what it said. Its exit code is checked."""
    user = block.options.get("as", USERS[block.language])
    command = RUN[block.language] if user == "root" else ("runuser", "-u", user, "--", *RUN[block.language])
    with host.popen(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/"
    ) as process:
        said, _ = process.communicate(f"{text}\n", timeout=float(block.options.get("timeout", "120")))
    assert process.returncode == int(block.options.get("rc", "0")), f"{block}\n{text}\n{said}"
    return said


def follow(host: Host, path: Path) -> None:
    """Do what a page says, from its first block to its last."""
    values: dict[str, str] = {}
    for block in Page(path).blocks:
        for name, arguments in block.scenes:
            values |= arguments | scenes.play(name, host, arguments)
        if block.manual is not None or block.language == "promql":  # test_alert_rules.py holds these against the rules
            continue
        said = run(host, block, filled(block.text, values))
        if block.prints is not None:
            shown = filled(block.prints, values)
            assert prints(shown, said), f"{block} shows\n{shown}\nbut\n{block.text}\nprints\n{said}"


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_the_page_is_true(path: Path, host: Host) -> None:
    configure(host, "page_jobs:registry")
    follow(host, path)


@pytest.mark.long
@pytest.mark.parametrize("path", ALERTS, ids=lambda path: path.stem)
def test_the_page_of_an_alert_is_true(path: Path, host: Host) -> None:
    configure(host, "page_jobs:registry")
    try:
        follow(host, path)
    finally:
        start_postgresql(host)  # a page may have failed while it was down


def test_day_one_is_true_on_a_host_that_knows_nothing_of_the_worker(wheels: Path) -> None:
    with Host("shw-new", bind_ro={wheels: "/mnt/wheels"}) as host:
        host.write("/etc/pip.conf", "[install]\nno-index = yes\nfind-links = /mnt/wheels\n")  # in place of PyPI
        start_postgresql(host)
        follow(host, NEW_HOST)
