"""`man` on a host with the worker in a virtual environment: what docs/commands.md says of it."""

from __future__ import annotations

import re

import pytest
from nspawn import Host, NspawnError
from worker_host import REPOSITORY

PAGE = "/opt/shithubd-worker/share/man/man1/shithubd-worker.1"
CONFIGURATION = "/etc/manpath.config"
BLOCKS = re.findall(r"(?ms)^```sh\n(.*?)^```", (REPOSITORY / "docs/commands.md").read_text())
[BY_PATH] = (block for block in BLOCKS if "PATH=/opt" in block)
[FOR_ALL] = (block for block in BLOCKS if CONFIGURATION in block)


def test_man_does_not_follow_the_link_of_the_program(host: Host) -> None:
    assert host.run("readlink", "/usr/bin/shithubd-worker").startswith("/opt/")
    with pytest.raises(NspawnError, match="exit code 16"):
        host.run("man", "--where", "shithubd-worker")


def test_man_finds_the_pages_beside_a_directory_of_the_path(host: Host) -> None:
    assert "run the background jobs of a git forge" in host.run("sh", "-c", BY_PATH)
    assert host.run("sh", "-c", BY_PATH.replace("man ", "man --where ")).strip() == PAGE


def test_man_finds_the_pages_that_its_configuration_names(host: Host) -> None:
    before = host.run("cat", CONFIGURATION)
    host.run("sh", "-c", FOR_ALL)
    try:
        assert host.run("man", "--where", "shithubd-worker").strip() == PAGE
        assert "stop leasing" in host.run("man", "shithubd-worker", "drain")
    finally:
        host.write(CONFIGURATION, before)
